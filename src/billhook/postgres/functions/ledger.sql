-- The ledger apart from applying events (save.sql): failures and retries.

-- The last resort for a failed event, if a trigger of the app rejects every write to the ledger, even
-- `failed` (docs/decisions/0008-silenced-triggers.md): write it with the app's triggers disabled.
-- All in one transaction, so nobody else ever sees them disabled; other writers wait until it ends.
--
-- Returns the silenced triggers and how each was enabled, for `restore_triggers`. Raises where they
-- belong to somebody else, or where other writers don't end.
CREATE OR REPLACE FUNCTION billhook.silence_triggers() RETURNS jsonb LANGUAGE plpgsql
SET lock_timeout = '5s' SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    silenced jsonb;
    trigger_name text;
BEGIN
    LOCK TABLE payments.webhook_events IN SHARE ROW EXCLUSIVE MODE;
    SELECT coalesce(pg_catalog.jsonb_object_agg(t.tgname, t.tgenabled), '{}') INTO silenced
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = 'payments.webhook_events'::regclass AND NOT t.tgisinternal
      AND t.tgenabled <> 'D' AND p.pronamespace <> 'billhook'::regnamespace;
    FOR trigger_name IN SELECT pg_catalog.jsonb_object_keys(silenced) LOOP
        EXECUTE pg_catalog.format('ALTER TABLE payments.webhook_events DISABLE TRIGGER %I', trigger_name);
    END LOOP;
    RETURN silenced;
END $$;

CREATE OR REPLACE FUNCTION billhook.restore_triggers(silenced jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was record;
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;  -- what waits for the commit would forbid it
    FOR was IN SELECT key AS trigger_name, value AS enabled FROM pg_catalog.jsonb_each_text(silenced) LOOP
        EXECUTE pg_catalog.format('ALTER TABLE payments.webhook_events ENABLE %s TRIGGER %I',
            CASE was.enabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END,
            was.trigger_name);
    END LOOP;
END $$;

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
