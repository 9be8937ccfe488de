-- What disputes say about payments (src/billhook/projections/disputes.py). Amounts are in the currency
-- of the payment.

CREATE TABLE billhook.payment_disputes (
    environment          text NOT NULL,
    object_id            text NOT NULL,
    payment_id           bigint NOT NULL,
    version_at           timestamptz NOT NULL,
    version_rank         smallint NOT NULL,    -- within one second: open < closed
    version_event_id     text NOT NULL,
    status               text NOT NULL,
    reason               text,
    amount               bigint NOT NULL,
    currency             text,
    due_by               timestamptz,
    provider_created_at  timestamptz,
    PRIMARY KEY (environment, object_id)
);
CREATE INDEX payment_disputes_by_payment ON billhook.payment_disputes (payment_id);

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
