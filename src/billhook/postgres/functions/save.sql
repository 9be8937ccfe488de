-- Everything that a batch of events writes, in one call: the ledger's rows as `pending`, the rows that
-- follow from the events, and last the mark of each event, which fires the app's triggers.
--
-- The app's triggers run in here, with the search_path of the session: every name is qualified, and
-- every call has exactly the types that it is declared with.
--
-- known:    the ledger's row of an event that failed before; null for a new one.
-- marks:    what each event becomes: processed, ignored or failed.
-- failures: the reasons of those that failed.
-- spent:    seconds that an event's mark took, mostly in the app's triggers.
CREATE OR REPLACE FUNCTION :billhook.save_batch(
    env text, live boolean, known uuid[], ids text[], types text[], accounts text[],
    object_types text[], object_ids text[], payloads jsonb[], marks text[], failures text[],
    rows jsonb)
RETURNS TABLE (
    number integer, processing_status text, attempt_count integer, last_error text,
    received_at timestamptz, processed_at timestamptz, created_at timestamptz,
    updated_at timestamptz, spent double precision)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    recorded uuid[] := '{}'::uuid[];
    row_id uuid;
    started timestamptz;
BEGIN
    FOR i IN 1..pg_catalog.cardinality(ids) LOOP
        IF known[i] IS NULL THEN
            INSERT INTO payments.webhook_events (
                provider, environment, provider_event_id, event_type, livemode,
                provider_account_id, object_type, object_id, processing_status, attempt_count,
                payload)
            VALUES ('stripe', env, ids[i], types[i], live, accounts[i], object_types[i],
                object_ids[i], 'pending', 1, payloads[i])
            RETURNING id INTO row_id;
        ELSE
            UPDATE payments.webhook_events e SET
                processing_status = 'pending', attempt_count = e.attempt_count + 1,
                last_error = NULL, processed_at = NULL, payload = payloads[i]
            WHERE e.id = known[i]
            RETURNING e.id INTO row_id;
        END IF;
        IF NOT FOUND THEN
            RAISE 'a trigger on payments.webhook_events drops what is written';
        END IF;
        recorded[i] := row_id;
    END LOOP;

    PERFORM :billhook.save_rows(env, rows, payloads, '{data,object}'::text[]);
    IF rows ? 'checkout_sessions'::text THEN
        PERFORM :billhook.save_sessions(rows -> 'checkout_sessions'::text, payloads, '{data,object}'::text[]);
    END IF;
    IF rows ? 'refreshes'::text THEN
        PERFORM :billhook.save_refreshes(env, rows -> 'refreshes'::text);
    END IF;

    FOR i IN 1..pg_catalog.cardinality(ids) LOOP
        started := pg_catalog.clock_timestamp();
        UPDATE payments.webhook_events e SET
            processing_status = marks[i], last_error = failures[i],
            processed_at = CASE WHEN failures[i] IS NULL THEN pg_catalog.now() END
        WHERE e.id = recorded[i]
        RETURNING i, e.processing_status, e.attempt_count, e.last_error, e.received_at,
            e.processed_at, e.created_at, e.updated_at
        INTO number, processing_status, attempt_count, last_error, received_at, processed_at,
            created_at, updated_at;
        IF NOT FOUND THEN
            RAISE 'a trigger on payments.webhook_events drops what is written';
        END IF;
        IF failures[i] IS NOT NULL THEN
            INSERT INTO billhook.event_retries (environment, event_id) VALUES (env, ids[i])
            ON CONFLICT DO NOTHING;
        ELSIF attempt_count > 1 THEN
            DELETE FROM billhook.event_retries r WHERE r.environment = env AND r.event_id = ids[i];
        END IF;
        spent := pg_catalog.date_part('epoch'::text, pg_catalog.clock_timestamp() - started);
        RETURN NEXT;
    END LOOP;
END $$;

-- Save what follows from facts that are not recorded in the ledger: fetched objects, or a replay.
CREATE OR REPLACE FUNCTION :billhook.save_facts(env text, rows jsonb, documents jsonb[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM :billhook.save_rows(env, rows, documents, '{}'::text[]);
    IF rows ? 'checkout_sessions'::text THEN
        PERFORM :billhook.save_sessions(rows -> 'checkout_sessions'::text, documents, '{}'::text[]);
    END IF;
    IF rows ? 'refreshes'::text THEN
        PERFORM :billhook.save_refreshes(env, rows -> 'refreshes'::text);
    END IF;
END $$;

-- Billhook's Checkout Sessions as changed by events. An older event fills only gaps.
CREATE OR REPLACE FUNCTION :billhook.save_sessions(
    sessions jsonb, documents jsonb[], object_path text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT * FROM pg_catalog.jsonb_to_recordset(sessions) AS s(
        id uuid, newer boolean, session_id text, status text, payment_status text,
        customer_id text, payment_intent_id text, subscription_id text, url text, raw integer,
        at bigint, rank smallint, event_id text)
    LOOP
        UPDATE :payments.stripe_checkout_sessions s SET
            checkout_session_id = r.session_id,
            status = CASE WHEN r.newer THEN r.status ELSE s.status END,
            payment_status = CASE WHEN r.newer THEN coalesce(r.payment_status, s.payment_status)
                ELSE coalesce(s.payment_status, r.payment_status) END,
            customer_id = CASE WHEN r.newer THEN coalesce(r.customer_id, s.customer_id)
                ELSE coalesce(s.customer_id, r.customer_id) END,
            payment_intent_id = CASE WHEN r.newer
                THEN coalesce(r.payment_intent_id, s.payment_intent_id)
                ELSE coalesce(s.payment_intent_id, r.payment_intent_id) END,
            subscription_id = CASE WHEN r.newer THEN coalesce(r.subscription_id, s.subscription_id)
                ELSE coalesce(s.subscription_id, r.subscription_id) END,
            url = coalesce(r.url, s.url),
            raw = CASE WHEN r.newer THEN documents[r.raw] #> object_path ELSE s.raw END,
            last_error = NULL,
            provider_event_at = CASE WHEN r.newer
                THEN pg_catalog.to_timestamp(r.at::double precision) ELSE s.provider_event_at END,
            provider_event_rank = CASE WHEN r.newer THEN r.rank ELSE s.provider_event_rank END,
            provider_event_id = CASE WHEN r.newer THEN r.event_id ELSE s.provider_event_id END
        WHERE s.id = r.id;
    END LOOP;
END $$;

-- Objects to be fetched from Stripe: immediately, or if they are still missing after a minute.
-- A new marked_at keeps the row of an object that is just being fetched.
CREATE OR REPLACE FUNCTION :billhook.save_refreshes(env text, wanted jsonb)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO :billhook.refreshes AS queued
        (environment, object_type, object_id, reason, next_at)
    SELECT env, r.object_type, r.object_id, r.reason, now() + make_interval(secs => r.delay)
    FROM jsonb_to_recordset(wanted) AS r(
        object_type text, object_id text, reason text, delay double precision)
    ON CONFLICT (environment, object_type, object_id) DO UPDATE
        SET marked_at = clock_timestamp(), next_at = least(queued.next_at, EXCLUDED.next_at);
$$;

-- A sync expands a customer's default payment method and source; an event contains only their ids.
-- The expanded object of the same id is kept.
CREATE OR REPLACE FUNCTION billhook.keep_expanded(old jsonb, new jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN new ->> 'default_source'::text = old #>> '{default_source,id}'::text[]
            THEN pg_catalog.jsonb_set(kept, '{default_source}', old -> 'default_source'::text)
        ELSE kept END
    FROM (SELECT CASE
        WHEN new #>> '{invoice_settings,default_payment_method}'::text[]
                = old #>> '{invoice_settings,default_payment_method,id}'::text[]
            THEN pg_catalog.jsonb_set(new, '{invoice_settings,default_payment_method}',
                old #> '{invoice_settings,default_payment_method}'::text[])
        ELSE new END AS kept) AS payment_method
$$;
