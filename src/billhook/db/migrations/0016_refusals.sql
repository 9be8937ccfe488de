-- The last resort of an event that failed, where a trigger of the app lets nothing be written to the
-- ledger, not even `failed` (docs/decisions/0008-silenced-triggers.md): to write that without them.
-- All in one transaction, so nobody else ever sees them disabled; other writers wait meanwhile.
--
-- Returns the silenced triggers and how each was enabled, for `restore_triggers`. Raises where they
-- belong to somebody else, or where other writers don't end.
CREATE FUNCTION billhook.silence_triggers() RETURNS jsonb LANGUAGE plpgsql
SET lock_timeout = '5s' AS $$
DECLARE
    silenced jsonb;
    trigger_name text;
BEGIN
    LOCK TABLE payments.webhook_events IN SHARE ROW EXCLUSIVE MODE;
    SELECT coalesce(jsonb_object_agg(t.tgname, t.tgenabled), '{}') INTO silenced
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = 'payments.webhook_events'::regclass AND NOT t.tgisinternal
      AND t.tgenabled <> 'D' AND p.pronamespace <> 'billhook'::regnamespace;
    FOR trigger_name IN SELECT jsonb_object_keys(silenced) LOOP
        EXECUTE format('ALTER TABLE payments.webhook_events DISABLE TRIGGER %I', trigger_name);
    END LOOP;
    RETURN silenced;
END $$;

CREATE FUNCTION billhook.restore_triggers(silenced jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was record;
BEGIN
    FOR was IN SELECT key AS trigger_name, value AS enabled FROM jsonb_each_text(silenced) LOOP
        EXECUTE format('ALTER TABLE payments.webhook_events ENABLE %s TRIGGER %I',
            CASE was.enabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END,
            was.trigger_name);
    END LOOP;
END $$;
