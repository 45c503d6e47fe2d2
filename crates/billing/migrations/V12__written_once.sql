-- An invoice's lines are written by one statement, and so are its taxes: nothing joins them later. Each statement looks at
-- its own table alone, where the same account's rows are on the same node; transaction ids, which were compared so far, mean
-- nothing on another one.
DROP TRIGGER invoice_line_issued ON invoice_line;
DROP TRIGGER invoice_tax_issued ON invoice_tax;
DROP FUNCTION invoice_is_being_issued();
ALTER TABLE invoice DROP COLUMN issued_by;

-- Planned for the rows that the statement brings: one invoice's or a whole bill run's.
CREATE FUNCTION refuse_more() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    more boolean;
BEGIN
    EXECUTE format('SELECT (
        SELECT count(*) FROM %s WHERE (account, invoice) IN (SELECT account, invoice FROM added)
    ) > (SELECT count(*) FROM added)', TG_RELID::regclass) INTO more;
    IF more THEN
        RAISE EXCEPTION 'an issued invoice is never changed' USING ERRCODE = 'OC002';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER invoice_line_once AFTER INSERT ON invoice_line REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_more();
CREATE TRIGGER invoice_tax_once AFTER INSERT ON invoice_tax REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_more();
