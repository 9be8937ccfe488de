-- The ledger apart from applying events (save.sql): accounts and retries.

-- The account that is connected; empty if none is known.
CREATE OR REPLACE FUNCTION billhook.connected_account(env text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT provider_account_id FROM payments.provider_connections
        WHERE provider = 'stripe' AND environment = env), '')
$$;

-- The events of the ledger that belong to accounts that are not connected: those that were connected
-- when the events were recorded. An event is applied again only while the rows of its account are here.
CREATE OR REPLACE FUNCTION billhook.events_of_others(env text)
RETURNS TABLE (event_id text, account_id text) LANGUAGE sql STABLE AS $$
    SELECT a.event_id, a.account_id FROM billhook.event_accounts a
    WHERE a.environment = env AND a.account_id <> (SELECT billhook.connected_account(env))
$$;

-- How long to wait after so many failures: 5 s, doubled with each of them, at most 6 hours, ± 25 %, so
-- that events that failed together are not retried together.
CREATE OR REPLACE FUNCTION billhook.backoff(failures integer) RETURNS interval
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT least(interval '6 hours', interval '5 seconds' * 2 ^ least(failures, 20))
        * (0.75 + random() / 2)
$$;
