-- A method that comes with an order is put on file once it has paid. Until then its attempt carries it; a decline forgets
-- it. What a declined attempt had put on file before stays there.

ALTER TABLE settlement
    ADD COLUMN new_token text,
    ADD COLUMN new_display_name text,
    DROP CONSTRAINT settlement_method,
    DROP CONSTRAINT settlement_payment,
    ADD CONSTRAINT settlement_method CHECK (state = 'DECLINED' OR num_nonnulls(payment_method, new_token) = 1),
    ADD CONSTRAINT settlement_new_method CHECK ((new_token IS NULL) = (new_display_name IS NULL)
        AND (new_token IS NULL OR state = 'PROCESSING')),
    -- Nobody was asked for a declined one without a payment.
    ADD CONSTRAINT settlement_payment CHECK (CASE WHEN due > 0 THEN payment IS NOT NULL OR state = 'DECLINED'
                                                  ELSE payment IS NULL END);

ALTER TABLE payment
    ALTER COLUMN payment_method DROP NOT NULL,
    ADD CONSTRAINT payment_method_of_success CHECK (payment_method IS NOT NULL OR state <> 'SUCCEEDED');
