-- In batches: the next thousand lines take the evidence that stands in rows of its own.
WITH batch AS MATERIALIZED (
    SELECT account, invoice, line FROM invoice_line
    WHERE (account, invoice, line) > ((SELECT account FROM evidence_moved), (SELECT invoice FROM evidence_moved),
                                      (SELECT line FROM evidence_moved))
    ORDER BY account, invoice, line LIMIT 1000
), moved AS (
    UPDATE invoice_line AS charge
    SET first_day = proof.first_day, peaks = proof.peaks, ends_of_day = proof.ends_of_day, seats = proof.seats
    FROM batch, LATERAL (
        SELECT min(every.day)::date AS first_day,
               array_agg(coalesce(known.peak, 0) ORDER BY every.day) AS peaks,
               array_agg(coalesce(known.end_of_day, 0) ORDER BY every.day) AS ends_of_day,
               array_agg(coalesce(known.seats, 0) ORDER BY every.day) AS seats
        FROM (
            SELECT min(day) AS first, max(day) AS last FROM invoice_line_day AS known
            WHERE known.account = batch.account AND known.invoice = batch.invoice AND known.line = batch.line
        ) AS span
        CROSS JOIN generate_series(span.first, span.last, interval '1 day') AS every (day)
        LEFT JOIN invoice_line_day AS known
            ON known.account = batch.account AND known.invoice = batch.invoice AND known.line = batch.line
            AND known.day = every.day::date
    ) AS proof
    WHERE charge.account = batch.account AND charge.invoice = batch.invoice AND charge.line = batch.line
      AND proof.first_day IS NOT NULL
)
UPDATE evidence_moved SET (account, invoice, line) = (
    SELECT account, invoice, line FROM batch ORDER BY account DESC, invoice DESC, line DESC LIMIT 1
)
WHERE EXISTS (SELECT FROM batch)
