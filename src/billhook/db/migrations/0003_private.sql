-- What Billhook keeps for itself: secrets, keys, and the facts that the public rows are made of.

CREATE TABLE IF NOT EXISTS system.secrets (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key              text NOT NULL UNIQUE,
    value_ciphertext text NOT NULL,
    is_active        boolean NOT NULL DEFAULT true,
    is_reserved      boolean NOT NULL DEFAULT false,
    last_used_at     timestamptz,
    expires_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE billhook.api_keys (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind       text NOT NULL CHECK (kind IN ('admin', 'anonymous')),
    key_hash   bytea NOT NULL UNIQUE,     -- SHA-256: the key itself is shown once and never stored
    hint       text NOT NULL,             -- masked, to recognise it by
    name       text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

-- A product, price or subscription that Stripe no longer has. A late update of an older state finds
-- it and stays out. Of customers only those that a sync missed: their rows stay, marked.
CREATE TABLE billhook.tombstones (
    environment    text NOT NULL,
    object_type    text NOT NULL,
    object_id      text NOT NULL,
    deleted_at     timestamptz NOT NULL,
    outside_ledger boolean NOT NULL DEFAULT false,  -- Stripe said so when it was asked: a rebuild keeps it
    PRIMARY KEY (environment, object_type, object_id)
);

-- Objects in doubt: the recovery worker fetches them from Stripe. Many marks make one fetch.
CREATE TABLE billhook.refreshes (
    environment text NOT NULL,
    object_type text NOT NULL,
    object_id   text NOT NULL,
    reason      text NOT NULL,
    marked_at   timestamptz NOT NULL DEFAULT now(),
    attempts    integer NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (environment, object_type, object_id)
);
CREATE INDEX refreshes_due ON billhook.refreshes (next_at);

-- Events that could not be applied, and when the recovery worker tries them again. `infinity`: the
-- last attempt is over, and the event is a dead letter.
CREATE TABLE billhook.event_retries (
    environment text NOT NULL,
    event_id    text NOT NULL,
    attempts    integer NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL DEFAULT now() + interval '5 seconds',
    PRIMARY KEY (environment, event_id)
);
CREATE INDEX event_retries_due ON billhook.event_retries (next_at);

-- Who said which customer pays for which subject. `payments.customer_mappings` and every subject
-- that a row did not bring itself are computed from these claims, so their order of arrival does
-- not matter. A finished checkout overrides; metadata of an invoice or subscription only fills.
CREATE TYPE billhook.claim_kind AS ENUM ('checkout', 'metadata');
CREATE TABLE billhook.customer_claims (
    environment    text NOT NULL,
    customer_id    text NOT NULL,
    subject_type   text NOT NULL,
    subject_id     text NOT NULL,
    kind           billhook.claim_kind NOT NULL,
    ref            text NOT NULL,            -- the checkout session; '' for metadata: the oldest counts
    claimed_at     timestamptz NOT NULL,
    outside_ledger boolean NOT NULL DEFAULT false,  -- no event says so: a rebuild keeps it
    PRIMARY KEY (environment, customer_id, kind, subject_type, subject_id, ref)
);
CREATE INDEX customer_claims_by_customer
    ON billhook.customer_claims (environment, customer_id, kind, claimed_at, ref);
CREATE INDEX customer_claims_by_subject
    ON billhook.customer_claims (environment, subject_type, subject_id, kind, claimed_at, ref);

-- Which payment each of its objects belongs to. Two payments that turn out to be one are merged
-- into the older, which has the smaller number.
CREATE SEQUENCE billhook.payment_ids;
CREATE TABLE billhook.payment_refs (
    environment text NOT NULL,
    object_type text NOT NULL,
    object_id   text NOT NULL,
    payment_id  bigint NOT NULL,
    PRIMARY KEY (environment, object_type, object_id)
);
CREATE INDEX payment_refs_by_payment ON billhook.payment_refs (payment_id);

-- The newest known facts of each object that tells of a payment, one row per outcome, so that a
-- success and an earlier failure of one PaymentIntent stand side by side. The enums' order is the
-- order in which facts count: a success before a failure, the PaymentIntent before the Invoice.
CREATE TYPE billhook.payment_outcome AS ENUM ('succeeded', 'failed', 'pending');
CREATE TYPE billhook.payment_object AS ENUM ('payment_intent', 'invoice', 'checkout_session');
CREATE TABLE billhook.payment_sources (
    environment         text NOT NULL,
    object_type         billhook.payment_object NOT NULL,
    object_id           text NOT NULL,
    outcome             billhook.payment_outcome NOT NULL,
    payment_id          bigint NOT NULL,
    version_at          timestamptz NOT NULL,
    version_event_id    text NOT NULL,
    type                text NOT NULL,
    subject_type        text,
    subject_id          text,
    customer_id         text,
    email               text,
    amount              bigint,
    currency            text,
    description         text,
    happened_at         timestamptz,          -- paid_at or failed_at
    provider_created_at timestamptz,
    related             jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (environment, object_type, object_id, outcome)
);
CREATE INDEX payment_sources_by_payment ON billhook.payment_sources (payment_id);

-- Money that went back: each Refund as last seen, and what a Charge says of its refunds in all,
-- for refunds that never told of themselves.
CREATE TYPE billhook.refund_object AS ENUM ('refund', 'charge');
CREATE TABLE billhook.payment_refunds (
    environment         text NOT NULL,
    object_type         billhook.refund_object NOT NULL,
    object_id           text NOT NULL,
    payment_id          bigint NOT NULL,
    version_at          timestamptz NOT NULL,
    version_rank        smallint NOT NULL,    -- within one second: pending < refunded < failed
    version_event_id    text NOT NULL,
    status              text NOT NULL CHECK (status IN ('pending', 'refunded', 'failed')),
    amount              bigint NOT NULL,      -- of a charge: its amount_refunded
    currency            text,
    description         text,
    charge_id           text,
    provider_created_at timestamptz,          -- of a charge: when it was last refunded
    PRIMARY KEY (environment, object_type, object_id)
);
CREATE INDEX payment_refunds_by_payment ON billhook.payment_refunds (payment_id);

-- What Stripe said of payments when it was asked, in the form of the event that would have told it.
-- No event of the ledger says so: a rebuild reads it here.
CREATE TABLE billhook.fetched_payments (
    environment text NOT NULL,
    event_type  text NOT NULL,
    object_id   text NOT NULL,
    told_at     timestamptz NOT NULL,
    object      jsonb NOT NULL,
    PRIMARY KEY (environment, event_type, object_id)
);
