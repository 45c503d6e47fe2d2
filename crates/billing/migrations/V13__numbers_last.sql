-- What a transaction issues is written before its numbers are taken, since whoever takes one keeps everybody else from
-- theirs: lines, taxes and closed months come before their invoice, in one transaction. They are never changed
-- afterwards, and no invoice is deleted; `octroi verify` looks for one of them without its invoice.
ALTER TABLE invoice_line DROP CONSTRAINT invoice_line_account_invoice_fkey;
ALTER TABLE invoice_tax DROP CONSTRAINT invoice_tax_account_invoice_fkey;
ALTER TABLE billed_month DROP CONSTRAINT billed_month_account_invoice_fkey;
