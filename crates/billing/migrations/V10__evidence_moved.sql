-- All evidence stands with its lines, which are frozen again.
CREATE TRIGGER invoice_line_frozen BEFORE UPDATE OR DELETE ON invoice_line
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP TABLE invoice_line_day;
DROP TABLE evidence_moved;
