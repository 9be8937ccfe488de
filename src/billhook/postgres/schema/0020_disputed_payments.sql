-- What disputes say about payments (src/billhook/reducers/transactions.py). Amounts are in the
-- currency of the payment.

ALTER TABLE payments.transactions
    ADD COLUMN amount_disputed bigint NOT NULL DEFAULT 0,
    ADD COLUMN amount_lost     bigint NOT NULL DEFAULT 0,
    ADD COLUMN dispute_status  text,
    ADD COLUMN dispute_reason  text,
    ADD COLUMN dispute_due_by  timestamptz,
    ADD COLUMN disputed_at     timestamptz;

-- Lost disputes by day, for the overview.
CREATE INDEX transactions_lost ON payments.transactions
    (environment, ((disputed_at AT TIME ZONE 'UTC')::date), currency)
    INCLUDE (amount_lost) WHERE amount_lost > 0;
