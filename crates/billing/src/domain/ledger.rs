//! The ledger: one row is one transfer from a credited to a debited account of an amount above zero, so that it
//! balances by its shape. Every invoice and every payment posts in its own transaction.

use jiff::Timestamp;
use octroi_platform::name::AccountId;
use uuid::Uuid;

use super::money::Currency;
use super::seller::SellerId;

/// An account of the books. There is one of each per customer, seller and currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Book {
    /// What the customer owes.
    Receivable,
    /// What was earned, without tax.
    Revenue,
    /// Tax owed to the state.
    Vat,
    /// Money received.
    Cash,
}

impl Book {
    /// As the database spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Book::Receivable => "RECEIVABLE",
            Book::Revenue => "REVENUE",
            Book::Vat => "VAT",
            Book::Cash => "CASH",
        }
    }
}

/// Why money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferKind {
    /// An invoice's net sum.
    InvoiceNet,
    /// An invoice's tax.
    InvoiceTax,
    /// A payment that succeeded.
    Payment,
}

impl TransferKind {
    /// As the database spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            TransferKind::InvoiceNet => "INVOICE_NET",
            TransferKind::InvoiceTax => "INVOICE_TAX",
            TransferKind::Payment => "PAYMENT",
        }
    }
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub account: AccountId,
    pub id: Uuid,
    pub seller: SellerId,
    /// The book that is debited.
    pub debit: Book,
    /// The book that is credited.
    pub credit: Book,
    /// Minor units, above zero.
    pub amount: i64,
    pub currency: Currency,
    pub kind: TransferKind,
    /// Resource name of the invoice or the payment; one transfer of a kind for each.
    pub source: String,
    pub at: Timestamp,
}

/// What every transfer of one invoice or payment has in common.
#[derive(Debug, Clone)]
pub struct Posting {
    pub account: AccountId,
    pub seller: SellerId,
    pub currency: Currency,
    /// Resource name of the invoice or the payment.
    pub source: String,
    pub at: Timestamp,
}

impl Posting {
    /// An invoice: the customer owes the net sum, earned, and the tax, owed on. Sums of zero post nothing.
    pub fn invoice(&self, ids: [Uuid; 2], net: i64, tax: i64) -> Vec<Transfer> {
        let [net_id, tax_id] = ids;
        let net = self.transfer(net_id, TransferKind::InvoiceNet, net);
        let tax = self.transfer(tax_id, TransferKind::InvoiceTax, tax);
        [net, tax].into_iter().flatten().collect()
    }

    /// A payment that succeeded: money received settles what the customer owes.
    pub fn payment(&self, id: Uuid, amount: i64) -> Option<Transfer> {
        self.transfer(id, TransferKind::Payment, amount)
    }

    fn transfer(&self, id: Uuid, kind: TransferKind, amount: i64) -> Option<Transfer> {
        let (debit, credit) = match kind {
            TransferKind::InvoiceNet => (Book::Receivable, Book::Revenue),
            TransferKind::InvoiceTax => (Book::Receivable, Book::Vat),
            TransferKind::Payment => (Book::Cash, Book::Receivable),
        };
        (amount > 0).then(|| Transfer {
            account: self.account.clone(),
            id,
            seller: self.seller.clone(),
            debit,
            credit,
            amount,
            currency: self.currency,
            kind,
            source: self.source.clone(),
            at: self.at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// An invoice and the payment of its total leave the customer owing nothing.
        #[test]
        fn paying_an_invoice_clears_the_receivable(net in 0_i64..1_000_000_000, tax in 0_i64..1_000_000_000) {
            let posting = Posting {
                account: AccountId::new("acme"),
                seller: SellerId("specimen".into()),
                currency: Currency::find("EUR").unwrap(),
                source: "accounts/acme/invoices/x".into(),
                at: Timestamp::UNIX_EPOCH,
            };
            let mut transfers = posting.invoice([Uuid::nil(); 2], net, tax);
            transfers.extend(posting.payment(Uuid::nil(), net + tax));
            prop_assert!(transfers.iter().all(|transfer| transfer.amount > 0 && transfer.debit != transfer.credit));
            let balance = |book| transfers.iter().map(|transfer| {
                let signed = |side: Book| if side == book { transfer.amount } else { 0 };
                signed(transfer.debit) - signed(transfer.credit)
            }).sum::<i64>();
            prop_assert_eq!(balance(Book::Receivable), 0);
            prop_assert_eq!(balance(Book::Cash), net + tax);
            prop_assert_eq!(balance(Book::Revenue), -net);
            prop_assert_eq!(balance(Book::Vat), -tax);
        }
    }

    #[test]
    fn nothing_is_posted_for_nothing() {
        let posting = Posting {
            account: AccountId::new("acme"),
            seller: SellerId("specimen".into()),
            currency: Currency::find("EUR").unwrap(),
            source: "accounts/acme/invoices/x".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        for amount in [-1, 0] {
            assert_eq!(posting.payment(Uuid::nil(), amount), None);
            assert_eq!(posting.invoice([Uuid::nil(); 2], amount, amount), []);
        }
    }
}
