-- What a run's invoices come to may be more than one amount can be.
ALTER TABLE bill_run_total ALTER COLUMN total TYPE numeric(38, 0);
