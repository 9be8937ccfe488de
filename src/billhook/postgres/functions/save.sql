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
