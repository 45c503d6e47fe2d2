-- An invoice is in one language; its seller's sentence was in French whatever that was. Where its English is not known
-- the sentence stays as it is, until the seller gives one.
ALTER TABLE seller ADD COLUMN early_payment_discount_en text NOT NULL DEFAULT '';
UPDATE seller SET early_payment_discount_en = CASE early_payment_discount
    WHEN 'Pas d''escompte pour paiement anticipé' THEN 'No discount for early payment'
    ELSE early_payment_discount
END;
ALTER TABLE seller ALTER COLUMN early_payment_discount_en DROP DEFAULT;
