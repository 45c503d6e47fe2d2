-- Failed sign-ins: twins of one request are one try.

ALTER TABLE sign_in_failure
    -- SHA-256 of the request that was counted last, where requests may be sent many times at once.
    ADD COLUMN request bytea CHECK (octet_length(request) = 32);
