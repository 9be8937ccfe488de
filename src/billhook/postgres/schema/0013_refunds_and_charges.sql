-- Stored before the request to Stripe: a repeated request finds it here, and a crash loses nothing.
-- The rows stay when another account is connected.

-- Refunds. One that Stripe has not confirmed yet counts as refunded, so that several requests
-- together never refund more than what is left.
CREATE TABLE billhook.refund_requests (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    environment     text NOT NULL CHECK (environment IN ('test', 'live')),
    account_id      text NOT NULL,
    idempotency_key text,               -- the caller's; null: see checkout/refund_requests.py
    request_hash    text NOT NULL,      -- SHA-256
    object_type     text NOT NULL CHECK (object_type IN ('payment_intent', 'charge')),
    object_id       text NOT NULL,      -- what is refunded
    amount          bigint NOT NULL,
    currency        text,
    line_items      jsonb NOT NULL DEFAULT '[]',
    status          text NOT NULL CHECK (status IN ('requested', 'created', 'refused')),
    attempt         integer NOT NULL DEFAULT 1,  -- incremented when a refused one is tried again
    refund_id       text,
    asked_at        timestamptz NOT NULL DEFAULT now(),  -- when it was last sent to Stripe
    failed_at       timestamptz,        -- the first time that Stripe said that this attempt failed
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX refund_requests_by_key
    ON billhook.refund_requests (environment, account_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX refund_requests_by_object
    ON billhook.refund_requests (environment, object_type, object_id);
CREATE INDEX refund_requests_by_refund
    ON billhook.refund_requests (environment, refund_id) WHERE refund_id IS NOT NULL;

-- Charges of a saved payment method. The PaymentIntent is stored before it is confirmed: a
-- PaymentIntent can be paid only once, however often the request is repeated.
CREATE TABLE billhook.charge_requests (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    environment       text NOT NULL CHECK (environment IN ('test', 'live')),
    account_id        text NOT NULL,
    idempotency_key   text NOT NULL,
    request_hash      text NOT NULL,    -- SHA-256
    customer_id       text NOT NULL,
    payment_method_id text NOT NULL,
    payment_intent_id text,
    attempt           integer NOT NULL DEFAULT 1,  -- incremented when Stripe fails, which it repeats for a day
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (environment, account_id, idempotency_key)
);
