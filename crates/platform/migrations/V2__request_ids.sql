-- Request ids are forgotten, but for those of methods that say otherwise. What was recorded before, or is by an older
-- release, is kept: nothing here says which method it was.
ALTER TABLE idempotency ADD COLUMN lasting boolean NOT NULL DEFAULT true;
CREATE INDEX idempotency_passing ON idempotency (created_at) WHERE NOT lasting;
