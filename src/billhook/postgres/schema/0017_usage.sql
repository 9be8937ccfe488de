-- Usage: an outbox. The app inserts rows in its own transactions; src/billhook/usage sends them to
-- Stripe's meters (docs/decisions/0018-usage.md).

CREATE TABLE payments.usage (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    environment  text NOT NULL
        DEFAULT nullif(pg_catalog.current_setting('billhook.environment', true), ''),
    meter        text NOT NULL,
    subject_type text,
    subject_id   text,
    customer_id  text,
    value        bigint NOT NULL DEFAULT 1,
    payload      jsonb,
    occurred_at  timestamptz NOT NULL DEFAULT now(),
    -- Unique in all copies of a database, and in the order of time, so that the index grows at its
    -- end.
    identifier   text NOT NULL DEFAULT pg_catalog.to_hex(
            (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint)
        || pg_catalog.substr(pg_catalog.gen_random_uuid()::text, 12),
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- Only Billhook sets these: no other role is granted them.
    status       text NOT NULL DEFAULT 'pending',
    sent_at      timestamptz,
    sent_as      text,
    last_error   text,
    CONSTRAINT usage_pkey PRIMARY KEY (id),
    CONSTRAINT usage_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT usage_meter_check CHECK (pg_catalog.char_length(meter) BETWEEN 1 AND 100),
    CONSTRAINT usage_owner_check CHECK (
        (subject_type IS NULL) = (subject_id IS NULL)
        AND (subject_id IS NOT NULL OR customer_id IS NOT NULL)
        AND pg_catalog.char_length(subject_type) BETWEEN 1 AND 100
        AND pg_catalog.char_length(subject_id) BETWEEN 1 AND 255
        AND pg_catalog.char_length(customer_id) BETWEEN 1 AND 255),
    -- Stripe accepts whole numbers of up to 15 digits. A negative one corrects usage.
    CONSTRAINT usage_value_check CHECK (value BETWEEN -999999999999999 AND 999999999999999),
    CONSTRAINT usage_payload_check CHECK (
        pg_catalog.jsonb_typeof(payload) = 'object'
        AND NOT payload @? '$.* ? (@.type() <> "string")'::jsonpath),
    CONSTRAINT usage_occurred_at_check CHECK (
        occurred_at BETWEEN '2000-01-01T00:00:00Z' AND '2200-01-01T00:00:00Z'),
    CONSTRAINT usage_identifier_check CHECK (pg_catalog.char_length(identifier) BETWEEN 1 AND 100),
    CONSTRAINT usage_status_check CHECK (
        status IN ('pending', 'waiting', 'sending', 'sent', 'failed', 'uncertain'))
);

CREATE UNIQUE INDEX usage_by_identifier ON payments.usage (environment, identifier);
-- No other index has this order, so that the planner has no other choice.
CREATE INDEX usage_to_send ON payments.usage (environment, created_at, id)
    WHERE status = 'pending';
CREATE INDEX usage_waiting ON payments.usage (environment, subject_type, subject_id)
    WHERE status = 'waiting';
CREATE INDEX usage_unsettled ON payments.usage (environment, status, id)
    WHERE status IN ('failed', 'uncertain');
CREATE INDEX usage_by_subject ON payments.usage
    (environment, subject_type, subject_id, meter, occurred_at, id) INCLUDE (value, status)
    WHERE subject_id IS NOT NULL;
CREATE INDEX usage_by_customer ON payments.usage
    (environment, customer_id, meter, occurred_at, id) INCLUDE (value, status)
    WHERE subject_id IS NULL;
-- Lists, and old rows that were sent. The status is before the meter, so that this index never looks
-- as good as the two above.
CREATE INDEX usage_by_status ON payments.usage (environment, status, meter, occurred_at, id);

-- A role needs a policy as well as a grant, so that a grant alone opens nothing to users.
ALTER TABLE payments.usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY billhook_project_admin ON payments.usage TO project_admin
    USING (true) WITH CHECK (true);

-- Sent rows that were compacted: their totals by UTC day.
CREATE TABLE payments.usage_days (
    environment  text NOT NULL,
    meter        text NOT NULL,
    subject_type text,
    subject_id   text,
    customer_id  text,
    day          date NOT NULL,
    count        bigint NOT NULL,
    sum          numeric NOT NULL,
    last         bigint NOT NULL,
    last_at      timestamptz NOT NULL,
    CONSTRAINT usage_days_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT usage_days_owner_check CHECK ((subject_id IS NULL) = (customer_id IS NOT NULL))
);
CREATE UNIQUE INDEX usage_days_by_subject ON payments.usage_days
    (environment, subject_type, subject_id, meter, day) WHERE subject_id IS NOT NULL;
CREATE UNIQUE INDEX usage_days_by_customer ON payments.usage_days
    (environment, customer_id, meter, day) WHERE subject_id IS NULL;

-- Meter events that Stripe may or may not have: stored before the first request, deleted with the
-- results.
CREATE TABLE billhook.usage_batches (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    environment text NOT NULL,
    events      jsonb NOT NULL,
    -- Of the one event in it that needs a decision; else null.
    uncertain   text,
    rows        integer NOT NULL,
    oldest_at   timestamptz NOT NULL,
    attempts    integer NOT NULL DEFAULT 0,
    -- Nothing of it could be sent: Stripe may be unreachable, so new rows wait.
    stalled     boolean NOT NULL DEFAULT false,
    -- Who sends it now, and when it was first sent with results that are not stored; null once they
    -- are. A process that dies leaves both.
    holder      uuid,
    unsettled_since timestamptz,
    next_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT usage_batches_pkey PRIMARY KEY (id),
    CONSTRAINT usage_batches_environment_check CHECK (environment IN ('test', 'live'))
);
CREATE INDEX usage_batches_due ON billhook.usage_batches (environment, next_at, id);
CREATE INDEX usage_batches_stalled ON billhook.usage_batches (environment) WHERE stalled;
CREATE INDEX usage_batches_uncertain ON billhook.usage_batches (environment, uncertain)
    WHERE uncertain IS NOT NULL;
