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
    SET CONSTRAINTS ALL IMMEDIATE;  -- what waits for the commit would forbid it
    FOR was IN SELECT key AS trigger_name, value AS enabled FROM jsonb_each_text(silenced) LOOP
        EXECUTE format('ALTER TABLE payments.webhook_events ENABLE %s TRIGGER %I',
            CASE was.enabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END,
            was.trigger_name);
    END LOOP;
END $$;

-- What an app's trigger set for the whole session, by mistake most likely, would go on for whatever
-- uses the connection next: other events without triggers, as another role, with other time limits.
CREATE FUNCTION billhook.forget_settings() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RESET ALL;
    RESET SESSION AUTHORIZATION;
    RESET ROLE;
    PERFORM pg_advisory_unlock_all();
END $$;

-- As in 0007_ledger.sql, but that an event which failed for an account that is not connected now is
-- refused: its rows would go into another account's mirror.
CREATE OR REPLACE FUNCTION billhook.claim_event(
    env text, event_id text, event_type text, livemode boolean, account_id text,
    object_type text, object_id text, payload jsonb
) RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ledger_id uuid;
BEGIN
    INSERT INTO payments.webhook_events (
        provider, environment, provider_event_id, event_type, livemode, provider_account_id,
        object_type, object_id, processing_status, attempt_count, payload)
    VALUES ('stripe', env, event_id, event_type, livemode, account_id, object_type, object_id,
        'pending', 1, payload)
    ON CONFLICT (provider, environment, provider_event_id) DO NOTHING
    RETURNING id INTO ledger_id;
    IF ledger_id IS NULL THEN
        IF EXISTS (
            SELECT FROM payments.webhook_events e
            WHERE e.provider = 'stripe' AND e.environment = env
              AND e.provider_event_id = claim_event.event_id
              AND e.processing_status IN ('failed', 'pending')
              AND NOT billhook.is_of_this_account(env, e.received_at))
        THEN
            RAISE 'it is of a Stripe account that is not connected' USING ERRCODE = 'BH001';
        END IF;
        UPDATE payments.webhook_events e SET
            processing_status = 'pending',
            attempt_count = e.attempt_count + 1,
            last_error = NULL,
            processed_at = NULL,
            payload = claim_event.payload
        WHERE e.provider = 'stripe' AND e.environment = env
          AND e.provider_event_id = claim_event.event_id
          AND e.processing_status IN ('failed', 'pending')
        RETURNING e.id INTO ledger_id;
    END IF;
    RETURN ledger_id;
END $$;
