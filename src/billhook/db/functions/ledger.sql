-- The ledger: one event, one transaction (docs/ordering.md), and what happens when it fails.

-- The way of an event (docs/ordering.md): record, project, mark. One call, one transaction: all of
-- it commits together with whatever the app's triggers do, or none of it does.
--
-- status:  what the event becomes when nothing goes wrong and no row of ours had to be found.
-- failure: null on the first try. When the first try raised, Billhook calls again with the reason:
--          the mirror still follows Stripe, and the event is marked `failed`, so that the app's
--          triggers, which wait for `processed`, don't fire.
CREATE OR REPLACE FUNCTION billhook.apply_event(
    env text, event_id text, event_type text, livemode boolean, account_id text,
    object_type text, object_id text, event_at timestamptz, payload jsonb, changes jsonb,
    failure text,
    OUT handled boolean, OUT processing_status text, OUT attempt_count integer,
    OUT last_error text, OUT received_at timestamptz, OUT processed_at timestamptz,
    OUT created_at timestamptz, OUT updated_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ledger_id uuid;
    object jsonb := payload #> '{data,object}'::text[];
    ours boolean;
BEGIN
    -- Stripe tells again of events up to 30 days old; an older one may have left the ledger.
    IF event_at < now() - interval '30 days' THEN
        SELECT false, a.content ->> 'processing_status'::text, (a.content ->> 'attempt_count'::text)::integer,
            a.content ->> 'last_error'::text, (a.content ->> 'received_at'::text)::timestamptz,
            (a.content ->> 'processed_at'::text)::timestamptz, (a.content ->> 'created_at'::text)::timestamptz,
            (a.content ->> 'updated_at'::text)::timestamptz
        INTO apply_event.handled, apply_event.processing_status, apply_event.attempt_count,
            apply_event.last_error, apply_event.received_at, apply_event.processed_at,
            apply_event.created_at, apply_event.updated_at
        FROM billhook.archived_events a
        WHERE a.environment = env AND a.event_id = apply_event.event_id;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;

    ledger_id := billhook.claim_event(
        env, event_id, event_type, livemode, account_id, object_type, object_id, payload);

    IF ledger_id IS NULL THEN  -- a duplicate of an event in its final state
        SELECT false, e.processing_status, e.attempt_count, e.last_error, e.received_at,
            e.processed_at, e.created_at, e.updated_at
        INTO apply_event.handled, apply_event.processing_status, apply_event.attempt_count,
            apply_event.last_error, apply_event.received_at, apply_event.processed_at,
            apply_event.created_at, apply_event.updated_at
        FROM payments.webhook_events e
        WHERE e.provider = 'stripe' AND e.environment = env
          AND e.provider_event_id = apply_event.event_id;
        RETURN;
    END IF;

    ours := billhook.apply_changes(env, changes, event_at, event_id, object);

    UPDATE payments.webhook_events e SET
        processing_status = CASE WHEN failure IS NOT NULL THEN 'failed'
                                 WHEN ours THEN 'processed' ELSE 'ignored' END,
        last_error = failure,
        processed_at = CASE WHEN failure IS NULL THEN now() END
    WHERE e.id = ledger_id
    RETURNING ours AND failure IS NULL, e.processing_status, e.attempt_count, e.last_error,
        e.received_at, e.processed_at, e.created_at, e.updated_at
    INTO apply_event.handled, apply_event.processing_status, apply_event.attempt_count,
        apply_event.last_error, apply_event.received_at, apply_event.processed_at,
        apply_event.created_at, apply_event.updated_at;

    IF failure IS NOT NULL THEN
        INSERT INTO billhook.event_retries (environment, event_id)
        VALUES (env, apply_event.event_id) ON CONFLICT DO NOTHING;
    ELSIF apply_event.attempt_count > 1 THEN
        DELETE FROM billhook.event_retries r
        WHERE r.environment = env AND r.event_id = apply_event.event_id;
    END IF;
END $$;

-- Insert the event as `pending`, or reclaim it if it failed. Null: it is already in its final state.
-- A second delivery that arrives meanwhile waits here for the first to end. An event that failed for
-- an account that is no longer connected is refused: its rows would go into another account's mirror.
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

-- A row without a subject of its own gets the one of its customer: whoever claims that customer at
-- this moment goes before or after us.
CREATE OR REPLACE FUNCTION billhook.await_claims(env text, x jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF x ? 'customer_id'::text AND NOT x ? 'subject_id'::text THEN
        PERFORM pg_catalog.pg_advisory_xact_lock_shared(
            pg_catalog.hashtextextended(billhook.customer_key(env, x ->> 'customer_id'::text), 0));
    END IF;
END $$;

-- Write what the projections read from the event. Returns whether any of it was ours to write.
CREATE OR REPLACE FUNCTION billhook.apply_changes(
    env text, changes jsonb, event_at timestamptz, event_id text, object jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    ours boolean := changes - 'checkout_session'::text <> '{}';
    mirrored jsonb;
BEGIN
    IF changes ? 'checkout_session'::text THEN
        ours := billhook.project_checkout_session(env, changes -> 'checkout_session'::text, object)
            OR ours;
    END IF;
    IF changes ? 'claim'::text THEN
        PERFORM billhook.record_claim(env, changes -> 'claim'::text, event_at);
    END IF;
    IF changes ? 'mirror'::text THEN
        PERFORM billhook.await_claims(env, changes -> 'mirror'::text);
        mirrored := pg_catalog.jsonb_build_array(pg_catalog.jsonb_set(changes -> 'mirror'::text, '{raw}', object));
        CASE changes #>> '{mirror,table}'::text[]
            WHEN 'customers' THEN PERFORM billhook.project_customers(env, mirrored);
            WHEN 'stripe_products' THEN
                PERFORM billhook.take_turns('billhook.catalog:' || (changes #>> '{mirror,product_id}'::text[]));
                PERFORM billhook.project_products(env, mirrored);
            WHEN 'stripe_prices' THEN
                PERFORM billhook.take_turns('billhook.catalog:' || (changes #>> '{mirror,price_id}'::text[]));
                PERFORM billhook.project_prices(env, mirrored);
            WHEN 'stripe_subscriptions' THEN PERFORM billhook.project_subscriptions(env, mirrored);
        END CASE;
    END IF;
    IF changes ? 'deleted_customer'::text THEN
        PERFORM billhook.delete_customers(env, ARRAY[changes ->> 'deleted_customer'::text]);
    END IF;
    IF changes ? 'deleted_catalog'::text THEN
        PERFORM billhook.take_turns('billhook.catalog:' || (changes #>> '{deleted_catalog,object_id}'::text[]));
        PERFORM billhook.delete_object(env, changes #>> '{deleted_catalog,object_type}'::text[],
            changes #>> '{deleted_catalog,object_id}'::text[], extract(epoch FROM event_at)::bigint);
    END IF;
    IF changes ? 'payment'::text THEN
        PERFORM billhook.await_claims(env, changes #> '{payment,source}'::text[]);
        PERFORM billhook.record_payment(env, changes -> 'payment'::text, event_at, event_id, object);
    END IF;
    RETURN ours;
END $$;

-- The last resort of an event that failed, where a trigger of the app lets nothing be written to the
-- ledger, not even `failed` (docs/decisions/0008-silenced-triggers.md): to write that without them.
-- All in one transaction, so nobody else ever sees them disabled; other writers wait meanwhile.
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

-- Whether the account that was connected when an event came is the one that is connected now: that
-- of the first archive made after it, or else the present one. Its rows must be here for the event
-- to be applied again.
CREATE OR REPLACE FUNCTION billhook.is_of_this_account(env text, received_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT a.account_id IS NOT DISTINCT FROM (
            SELECT provider_account_id FROM payments.provider_connections
            WHERE provider = 'stripe' AND environment = env)
        FROM billhook.archives a
        WHERE a.environment = env AND a.archived_at > is_of_this_account.received_at
        ORDER BY a.archived_at LIMIT 1), true)
$$;

-- How long to wait after the n-th failure: 5 s, doubled each time up to 6 hours, and a quarter of it
-- more or less, so that events which failed together don't come again together.
CREATE OR REPLACE FUNCTION billhook.backoff(failures integer) RETURNS interval
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT least(interval '6 hours', interval '5 seconds' * 2 ^ least(failures, 20))
        * (0.75 + random() / 2)
$$;

-- Put a batch of finished events received before `before` away. Returns how many. An event that a
-- row of the app's refers to by a foreign key cannot go: PostgreSQL says so, and all stay.
CREATE OR REPLACE FUNCTION billhook.archive_events(env text, before timestamptz, most integer)
RETURNS bigint LANGUAGE sql AS $$
    WITH old AS (
        SELECT id FROM payments.webhook_events
        WHERE environment = env AND received_at < before AND provider = 'stripe'
          AND processing_status IN ('processed', 'ignored')
        ORDER BY received_at LIMIT most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM payments.webhook_events e USING old WHERE e.id = old.id
        RETURNING e.provider_event_id, pg_catalog.to_jsonb(e) AS content
    ), kept AS (
        INSERT INTO billhook.archived_events (environment, event_id, content)
        SELECT env, provider_event_id, content FROM gone
        RETURNING 1
    )
    SELECT count(*) FROM kept
$$;
