-- Machine time at which an attempt to pay began: one that lasts is shown to a person.

ALTER TABLE payment_attempt ADD COLUMN begun_at timestamptz NOT NULL DEFAULT clock_timestamp();
