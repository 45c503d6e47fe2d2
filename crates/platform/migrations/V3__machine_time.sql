-- Raises when the command is older than it may be: older when the transaction began, and what has passed since. Called
-- last before COMMIT, since what travels before may have waited.
CREATE FUNCTION expect_young(age_micros bigint, most_micros bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF age_micros * interval '1 microsecond' + (clock_timestamp() - now()) > most_micros * interval '1 microsecond' THEN
        RAISE EXCEPTION 'the command took too long' USING ERRCODE = 'OC003';
    END IF;
END
$$;

-- How long a delivery has been under way, in machine time. Of those under way now nothing better is known.
ALTER TABLE delivery ADD COLUMN created_at timestamptz NOT NULL DEFAULT clock_timestamp();
