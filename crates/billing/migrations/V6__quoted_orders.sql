-- When an order was last quoted that may be kept, before any was known to be. What a quote fixed so far stays fixed:
-- nothing here says whose order was kept.
ALTER TABLE account ADD COLUMN quoted_time timestamptz;
