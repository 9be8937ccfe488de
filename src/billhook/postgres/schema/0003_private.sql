-- Billhook's private tables: secrets, keys, and the facts that the public rows are computed from.

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

-- A product, price or subscription that no longer exists at Stripe, so that a late update with an
-- older state is ignored. Of customers, only those that were missing in a sync: their rows stay,
-- marked as deleted.
CREATE TABLE billhook.tombstones (
    environment    text NOT NULL,
    object_type    text NOT NULL,
    object_id      text NOT NULL,
    deleted_at     timestamptz NOT NULL,
    outside_ledger boolean NOT NULL DEFAULT false,  -- Stripe said so when it was asked: a rebuild keeps it
    PRIMARY KEY (environment, object_type, object_id)
);

-- Objects to refresh: the recovery worker fetches each from Stripe once, however often it was
-- queued.
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
-- last attempt has failed, and the event is a dead letter.
CREATE TABLE billhook.event_retries (
    environment text NOT NULL,
    event_id    text NOT NULL,
    attempts    integer NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL DEFAULT now() + interval '5 seconds',
    PRIMARY KEY (environment, event_id)
);
CREATE INDEX event_retries_due ON billhook.event_retries (next_at);

-- Claims that a customer pays for a subject. `payments.customer_mappings`, and the subjects of rows
-- without their own, are computed from these claims, so their order of arrival does not matter. A
-- completed checkout takes precedence; metadata of an invoice or subscription only fills gaps.
CREATE TABLE billhook.customer_claims (
    environment    text NOT NULL,
    customer_id    text NOT NULL,
    subject_type   text NOT NULL,
    subject_id     text NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('checkout', 'metadata')),
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

-- The newest known facts of each object that reports a payment, one row per outcome, so that a
-- success and an earlier failure of one PaymentIntent are both kept. If several have a value, the
-- one with the smallest place counts.
CREATE TABLE billhook.payment_sources (
    environment          text NOT NULL,
    object_type          text NOT NULL CHECK (object_type IN (
        'payment_intent', 'invoice', 'checkout_session', 'invoice_payment', 'charge')),
    object_id            text NOT NULL,
    outcome              text NOT NULL CHECK (outcome IN ('succeeded', 'canceled', 'failed', 'pending')),
    payment_id           bigint NOT NULL,
    version_at           timestamptz NOT NULL,
    version_event_id     text NOT NULL,
    place                smallint NOT NULL,
    type                 text NOT NULL,
    subject_type         text,
    subject_id           text,
    customer_id          text,
    email                text,
    amount               bigint,
    full_amount          bigint,               -- what was asked for, where that is not the amount
    currency             text,
    presentment_amount   bigint,               -- the same in the buyer's currency
    presentment_currency text,
    out_of_band          boolean NOT NULL,     -- paid outside Stripe
    description          text,
    happened_at          timestamptz,          -- when it was paid, failed or was canceled
    provider_created_at  timestamptz,
    related              jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (environment, object_type, object_id, outcome)
);
CREATE INDEX payment_sources_by_payment ON billhook.payment_sources (payment_id);

-- Refunded money: each Refund in its latest state, and the total that a Charge reports, for refunds
-- whose own events never arrived.
CREATE TABLE billhook.payment_refunds (
    environment          text NOT NULL,
    object_type          text NOT NULL CHECK (object_type IN ('refund', 'charge', 'transaction')),
    object_id            text NOT NULL,
    payment_id           bigint NOT NULL,
    version_at           timestamptz NOT NULL,
    version_rank         smallint NOT NULL,    -- within one second: pending < refunded < failed
    version_event_id     text NOT NULL,
    status               text NOT NULL CHECK (status IN ('pending', 'refunded', 'failed')),
    amount               bigint NOT NULL,      -- of a charge, or an adopted row: refunded in all
    currency             text,
    presentment_amount   bigint,               -- the same in the buyer's currency
    presentment_currency text,
    description          text,
    payment_intent_id    text,
    charge_id            text,
    provider_created_at  timestamptz,          -- of these: when it was last refunded
    PRIMARY KEY (environment, object_type, object_id)
);
CREATE INDEX payment_refunds_by_payment ON billhook.payment_refunds (payment_id);

-- Fetched states of payments, in the form of the event that would have reported them. No event of
-- the ledger contains them, so a rebuild reads them here.
CREATE TABLE billhook.fetched_payments (
    environment text NOT NULL,
    event_type  text NOT NULL,
    object_id   text NOT NULL,
    told_at     timestamptz NOT NULL,
    object      jsonb NOT NULL,
    PRIMARY KEY (environment, event_type, object_id)
);

-- Leases for work that only one process may do at a time, also behind a pooler without sessions. If
-- a holder dies, its lease expires.
CREATE TABLE billhook.leases (
    name   text PRIMARY KEY,
    holder uuid NOT NULL,
    until  timestamptz NOT NULL
);

-- The running or last sync of an environment. `finished_at` is null while it runs
-- and after it was stopped; then the next one continues where it stopped.
CREATE TABLE billhook.syncs (
    environment text PRIMARY KEY CHECK (environment IN ('test', 'live')),
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    result      jsonb
);

-- A part of a list: objects created in [since, upto), of which those up to `after` (Stripe's
-- starting_after; newest first) are read. Parts are split while other readers are idle.
CREATE TABLE billhook.sync_ranges (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    environment text NOT NULL REFERENCES billhook.syncs (environment) ON DELETE CASCADE,
    list        text NOT NULL,
    variant     smallint NOT NULL,  -- a list may need several requests: active and inactive
    since       bigint NOT NULL,
    upto        bigint,
    after       text,
    objects     integer NOT NULL DEFAULT 0,
    done        boolean NOT NULL DEFAULT false
);
CREATE INDEX sync_ranges_by_environment ON billhook.sync_ranges (environment);

-- The rows of a previously connected account, unchanged.
CREATE TABLE billhook.archives (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    environment text NOT NULL,
    account_id  text,
    archived_at timestamptz NOT NULL DEFAULT now(),
    restored_at timestamptz,
    pull        jsonb                   -- its row of billhook.pulls, for when it is connected again
);
CREATE TABLE billhook.archived_rows (
    archive_id uuid NOT NULL REFERENCES billhook.archives (id),
    relation   text NOT NULL,
    content    jsonb NOT NULL
);
CREATE INDEX archived_rows_by_archive ON billhook.archived_rows (archive_id, relation);

-- Which account an event belongs to, recorded when another one is connected. Events without a row
-- belong to the connected account.
CREATE TABLE billhook.event_accounts (
    environment text NOT NULL,
    event_id    text NOT NULL,
    account_id  text NOT NULL,          -- empty: unknown
    PRIMARY KEY (environment, event_id)
);

-- A signing secret belongs to one account: the one that was connected when a delivery was first
-- verified with it.
CREATE TABLE billhook.signing_secrets (
    environment text NOT NULL CHECK (environment IN ('test', 'live')),
    secret_hash text NOT NULL,          -- SHA-256, in hexadecimal
    account_id  text NOT NULL,
    PRIMARY KEY (environment, secret_hash)
);

-- The state of reading Stripe's event list. Events before `since`, when the account was first
-- connected, are not applied.
CREATE TABLE billhook.pulls (
    environment text PRIMARY KEY CHECK (environment IN ('test', 'live')),
    since       timestamptz NOT NULL,
    cursor_at   timestamptz NOT NULL,   -- everything Stripe listed before this is in the ledger
    next_at     timestamptz NOT NULL DEFAULT now(),
    pulled_at   timestamptz,            -- the last time that it worked
    newest_at   timestamptz,            -- Stripe's newest event then, and the newest that is applied
    applied_at  timestamptz,
    failures    integer NOT NULL DEFAULT 0,
    error       text,
    gap_from    timestamptz,            -- Stripe no longer listed what happened in between
    gap_upto    timestamptz
);

-- Archived events, which are no longer in the ledger's indexes. They are still deduplicated.
CREATE TABLE billhook.archived_events (
    environment text NOT NULL,
    event_id    text NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    content     jsonb NOT NULL,
    PRIMARY KEY (environment, event_id)
);

-- The last comparison with Stripe of each environment (`billhook verify`).
CREATE TABLE billhook.verifications (
    environment text PRIMARY KEY CHECK (environment IN ('test', 'live')),
    finished_at timestamptz NOT NULL,
    result      jsonb NOT NULL
);

-- The event whose state an object shows after a tie (same second and kind). A third event of that
-- second may lead back to the start of the first, and then previous_attributes are misleading: with
-- A to B, B to C and C to A, the first appears to follow the third.
CREATE TABLE billhook.ties (
    environment text NOT NULL CHECK (environment IN ('test', 'live')),
    object_type text NOT NULL,
    object_id   text NOT NULL,
    event_id    text NOT NULL,  -- empty: what was fetched
    PRIMARY KEY (environment, object_type, object_id)
);

-- Dashboard sessions, stored here so that any process can handle any request.

CREATE TABLE billhook.dashboard_sessions (
    token_hash bytea PRIMARY KEY,       -- SHA-256 of the cookie, which is kept nowhere
    key_hash   bytea,                   -- of the admin key that opened it: it ends with the key
    who        text NOT NULL,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    notice     jsonb                    -- what the next page says first: how the last action went
);
CREATE INDEX dashboard_sessions_expired ON billhook.dashboard_sessions (expires_at);
