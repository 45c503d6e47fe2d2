-- A queued e-mail either stands in line (`place` says where) or waits for its time: the end of its lease, its back-off, or
-- until its account is known. The line is worked off in the order of places, which are handed out so that an account with
-- many e-mails stands between the others' and not before them. What was queued before is put in line by the service.
ALTER TABLE email
    ADD COLUMN place timestamptz,
    -- Sent to every account at once, such as a month's invoice: it stands in a line of its own.
    ADD COLUMN bulk boolean NOT NULL DEFAULT false;

DROP INDEX email_due;
CREATE INDEX email_line ON email (bulk, place) WHERE state = 'QUEUED' AND place IS NOT NULL;
CREATE INDEX email_line_of ON email (account, bulk, place) WHERE state = 'QUEUED' AND place IS NOT NULL;
CREATE INDEX email_waiting ON email ((coalesce(lease_expires_at, next_attempt_at)))
    WHERE state = 'QUEUED' AND place IS NULL;
CREATE INDEX email_unaddressed ON email (account)
    WHERE state = 'QUEUED' AND place IS NULL AND recipient IS NULL;
