-- What the recovery worker needs: how far Stripe's event list was read, and old events put away.

-- Reading Stripe's event list. Events before `since`, when the account was connected, are not ours.
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

-- How long to wait after the n-th failure: 5 s, doubled each time up to 6 hours, and a quarter of it
-- more or less, so that events which failed together don't come again together.
CREATE FUNCTION billhook.backoff(failures integer) RETURNS interval LANGUAGE sql VOLATILE AS $$
    SELECT least(interval '6 hours', interval '5 seconds' * 2 ^ least(failures, 20))
        * (0.75 + random() / 2)
$$;

-- Old events, out of the way of the ledger's indexes. They still count as known.
CREATE TABLE billhook.archived_events (
    environment text NOT NULL,
    event_id    text NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    content     jsonb NOT NULL,
    PRIMARY KEY (environment, event_id)
);

-- Put a batch of finished events received before `before` away. Returns how many. An event that a
-- row of the app's refers to by a foreign key cannot go: PostgreSQL says so, and all stay.
CREATE FUNCTION billhook.archive_events(env text, before timestamptz, most integer)
RETURNS bigint LANGUAGE sql AS $$
    WITH old AS (
        SELECT id FROM payments.webhook_events
        WHERE environment = env AND received_at < before AND provider = 'stripe'
          AND processing_status IN ('processed', 'ignored')
        ORDER BY received_at LIMIT most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM payments.webhook_events e USING old WHERE e.id = old.id
        RETURNING e.provider_event_id, to_jsonb(e) AS content
    ), kept AS (
        INSERT INTO billhook.archived_events (environment, event_id, content)
        SELECT env, provider_event_id, content FROM gone
        RETURNING 1
    )
    SELECT count(*) FROM kept
$$;
