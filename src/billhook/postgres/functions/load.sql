-- What a batch of events touches, read in one call. Complete keys in, rows out: it contains no rules.
--
-- Without statistics the planner considers any index that begins with `environment` as good as one on
-- the complete key. Nothing of the app's runs in here, so the settings of `load_batch` leave it no choice.
-- They hold in the functions that it calls, and nothing else calls these.

-- Take the locks of a batch first, in their order, so that two batches never wait for each other in
-- a circle; then read. Each statement sees what was committed before it: after the locks, that is
-- what the batch before has written.
CREATE OR REPLACE FUNCTION :billhook.load_batch(env text, wanted jsonb, OUT loaded json)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_sort = off SET plan_cache_mode = force_generic_plan SET jit = off
SET lock_timeout = 0 AS $$
DECLARE
    holders text;
    account text;
    ledger json;
    archived json;
    sessions json;
    unnamed json;
BEGIN
    IF wanted ? 'locks'::text THEN
        -- A rebuild, an archive or a restoration that replaces rows blocks writers. So nothing is
        -- read here before it and written after it, and the connected account stays the same.
        LOCK TABLE payments.webhook_events IN ROW EXCLUSIVE MODE;
        -- Any user of the database can take an advisory lock: nobody waits for one for long.
        PERFORM set_config('lock_timeout'::text, '5s'::text, true);
        BEGIN
            PERFORM pg_advisory_xact_lock(k.key::bigint)
            FROM jsonb_array_elements_text(wanted -> 'locks'::text) AS k(key);
        EXCEPTION WHEN lock_not_available THEN
            SELECT string_agg(DISTINCT format('%s (%s)'::text, l.pid, a.usename), ', '::text)
            INTO holders
            FROM jsonb_array_elements_text(wanted -> 'locks'::text) AS k(key)
            JOIN pg_locks l ON l.locktype = 'advisory'::text AND l.objsubid = 1::smallint
                AND l.granted AND l.pid <> pg_backend_pid()
                AND (l.classid::bigint << 32 | l.objid::bigint) = k.key::bigint
            JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
            LEFT JOIN pg_stat_activity a ON a.pid = l.pid;
            RAISE lock_not_available USING MESSAGE = coalesce(
                'held by process '::text || holders, 'its holder is gone'::text);
        END;
    END IF;

    IF wanted ? 'events'::text THEN
        account := billhook.connected_account(env);
        SELECT json_agg(json_build_array(e.provider_event_id, e.id, e.processing_status,
            e.attempt_count, e.last_error, e.received_at, e.processed_at, e.created_at,
            e.updated_at, (SELECT o.account_id FROM billhook.events_of_others(env) o
                           WHERE o.event_id = e.provider_event_id)))
        INTO ledger
        FROM jsonb_array_elements_text(wanted -> 'events'::text) AS k(id) CROSS JOIN LATERAL (
            SELECT * FROM payments.webhook_events e
            WHERE e.provider = 'stripe'::text AND e.environment = env
              AND e.provider_event_id >= k.id AND e.provider_event_id <= k.id
            ORDER BY e.provider_event_id LIMIT 1) e;
    END IF;
    IF wanted ? 'old_events'::text THEN
        SELECT json_agg(json_build_array(a.event_id, a.content)) INTO archived
        FROM jsonb_array_elements_text(wanted -> 'old_events'::text) AS k(id)
        JOIN :billhook.archived_events a ON a.environment = env AND a.event_id = k.id;
    END IF;
    IF wanted ? 'sessions'::text THEN
        SELECT json_agg(json_build_array(w.session_id, s.id,
            extract(epoch FROM s.provider_event_at)::bigint, s.provider_event_rank))
        INTO sessions
        FROM jsonb_to_recordset(wanted -> 'sessions'::text) AS w(session_id text, row_id uuid)
        CROSS JOIN LATERAL (
            SELECT * FROM (
                (SELECT * FROM :payments.stripe_checkout_sessions s
                 WHERE s.environment = env AND s.checkout_session_id >= w.session_id
                   AND s.checkout_session_id <= w.session_id
                 ORDER BY s.checkout_session_id LIMIT 1)
                UNION ALL
                (SELECT * FROM :payments.stripe_checkout_sessions s
                 WHERE s.id = w.row_id AND s.environment = env AND s.checkout_session_id IS NULL)
            ) AS either LIMIT 1) s;
    END IF;
    IF wanted ? 'unnamed'::text THEN
        SELECT json_agg(u) INTO unnamed FROM :billhook.load_unnamed(env, wanted -> 'unnamed'::text) AS u;
    END IF;
    loaded := json_build_object(
        'account', account, 'ledger', ledger, 'archived', archived, 'sessions', sessions, 'unnamed', unnamed,
        'objects', :billhook.load_objects(env, wanted -> 'objects'::text, wanted -> 'ties'::text),
        'tombstones', :billhook.load_tombstones(env, wanted),
        'claims', :billhook.load_claims(env, wanted),
        'payments', :billhook.load_payments(env, wanted));
END $$;

-- Tombstones, and for objects with a tie the event whose state won.
CREATE OR REPLACE FUNCTION :billhook.load_tombstones(env text, wanted jsonb, OUT loaded json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deletions json;
    ties json;
BEGIN
    SELECT json_agg(json_build_array(t.object_type, t.object_id,
        extract(epoch FROM t.deleted_at)::bigint))
    INTO deletions
    FROM jsonb_each(wanted -> 'objects'::text) AS o(kind, ids)
    CROSS JOIN LATERAL jsonb_array_elements_text(o.ids) AS k(id)
    CROSS JOIN LATERAL (
        SELECT * FROM :billhook.tombstones t
        WHERE t.environment = env AND t.object_type = o.kind AND t.object_id = k.id OFFSET 0) t;
    IF wanted ? 'ties'::text THEN
        SELECT json_agg(json_build_array(t.object_type, t.object_id, t.event_id)) INTO ties
        FROM jsonb_each(wanted -> 'ties'::text) AS o(kind, ids)
        CROSS JOIN LATERAL jsonb_array_elements_text(o.ids) AS k(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.ties t
            WHERE t.environment = env AND t.object_type = o.kind AND t.object_id = k.id OFFSET 0) t;
    END IF;
    loaded := json_build_object('deletions', deletions, 'ties', ties);
END $$;

-- Who pays for whom: of each customer and subject the newest checkouts and the oldest metadata, as
-- many as wanted (null: all), and the mappings that stand now.
CREATE OR REPLACE FUNCTION :billhook.load_claims(env text, wanted jsonb, OUT loaded json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_customers json;
    on_subjects json;
    same json;
    deleted json;
    mapped json;
    held json;
BEGIN
    IF NOT (wanted ? 'claims_of'::text OR wanted ? 'claims_on'::text) THEN
        RETURN;
    END IF;
    IF wanted ? 'claims_of'::text THEN
        SELECT json_agg(json_build_array(c.customer_id, c.subject_type, c.subject_id, c.kind, c.ref,
            extract(epoch FROM c.claimed_at)::bigint))
        INTO of_customers
        FROM jsonb_to_recordset(wanted -> 'claims_of'::text) AS w(customer text, most bigint)
        CROSS JOIN LATERAL (
            (SELECT * FROM :billhook.customer_claims c
             WHERE c.environment = env AND c.customer_id >= w.customer AND c.customer_id <= w.customer
               AND c.kind = 'checkout'
             ORDER BY c.customer_id DESC, c.kind DESC, c.claimed_at DESC, c.ref DESC LIMIT w.most)
            UNION ALL
            (SELECT * FROM :billhook.customer_claims c
             WHERE c.environment = env AND c.customer_id >= w.customer AND c.customer_id <= w.customer
               AND c.kind = 'metadata'
             ORDER BY c.customer_id, c.kind, c.claimed_at, c.ref LIMIT w.most)) c;
        SELECT json_agg(w.customer) INTO deleted
        FROM jsonb_to_recordset(wanted -> 'claims_of'::text) AS w(customer text)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.customers c
            WHERE c.provider = 'stripe'::text AND c.environment = env
              AND c.provider_customer_id >= w.customer AND c.provider_customer_id <= w.customer
            ORDER BY c.provider_customer_id LIMIT 1) c
        WHERE c.deleted;
        SELECT json_agg(json_build_array(m.provider_customer_id, m.subject_type, m.subject_id))
        INTO mapped
        FROM jsonb_to_recordset(wanted -> 'claims_of'::text) AS w(customer text)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.customer_mappings m
            WHERE m.provider = 'stripe'::text AND m.environment = env
              AND m.provider_customer_id >= w.customer AND m.provider_customer_id <= w.customer
            ORDER BY m.provider_customer_id LIMIT 1) m;
    END IF;
    IF wanted ? 'claims_on'::text THEN
        SELECT json_agg(json_build_array(c.customer_id, c.subject_type, c.subject_id, c.kind, c.ref,
            extract(epoch FROM c.claimed_at)::bigint))
        INTO on_subjects
        FROM jsonb_to_recordset(wanted -> 'claims_on'::text) AS w(type text, id text, most bigint)
        CROSS JOIN LATERAL (
            (SELECT * FROM :billhook.customer_claims c
             WHERE c.environment = env AND c.subject_type = w.type
               AND c.subject_id >= w.id AND c.subject_id <= w.id
               AND c.kind = 'checkout'
             ORDER BY c.subject_id DESC, c.kind DESC, c.claimed_at DESC, c.ref DESC LIMIT w.most)
            UNION ALL
            (SELECT * FROM :billhook.customer_claims c
             WHERE c.environment = env AND c.subject_type = w.type
               AND c.subject_id >= w.id AND c.subject_id <= w.id
               AND c.kind = 'metadata'
             ORDER BY c.subject_id, c.kind, c.claimed_at, c.ref LIMIT w.most)) c;
        SELECT json_agg(json_build_array(m.provider_customer_id, m.subject_type, m.subject_id))
        INTO held
        FROM jsonb_to_recordset(wanted -> 'claims_on'::text) AS w(type text, id text)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.customer_mappings m
            WHERE m.provider = 'stripe'::text AND m.environment = env
              AND m.subject_type = w.type AND m.subject_id >= w.id AND m.subject_id <= w.id
            ORDER BY m.subject_type, m.subject_id LIMIT 1) m;
    END IF;
    IF wanted ? 'claims'::text THEN
        SELECT json_agg(json_build_array(c.customer_id, c.subject_type, c.subject_id, c.kind, c.ref,
            extract(epoch FROM c.claimed_at)::bigint))
        INTO same
        FROM jsonb_to_recordset(wanted -> 'claims'::text)
            AS w(customer text, kind text, type text, id text, ref text)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.customer_claims c
            WHERE c.environment = env AND c.customer_id = w.customer AND c.kind = w.kind
              AND c.subject_type = w.type AND c.subject_id = w.id AND c.ref = w.ref OFFSET 0) c;
    END IF;
    loaded := json_build_object('of', of_customers, 'on', on_subjects, 'same', same,
        'deleted', deleted, 'mapped', mapped, 'held', held);
END $$;

-- The payments that the wanted references belong to, and those of customers whose rows name no
-- subject themselves. Two batches may know one payment by different objects, so payments are locked
-- as well; one may merge into another while we wait.
CREATE OR REPLACE FUNCTION :billhook.load_payments(env text, wanted jsonb, OUT loaded json)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids bigint[];
    locked bigint[] := '{}'::bigint[];
    unnamed bigint[] := '{}'::bigint[];
    refs json;
    sources json;
    refunds json;
    transactions json;
    new_ids json;
BEGIN
    IF wanted ? 'unnamed'::text THEN
        SELECT coalesce(array_agg(DISTINCT t.payment_id), '{}'::bigint[]) INTO unnamed
        FROM jsonb_array_elements_text(wanted -> 'unnamed'::text) AS k(customer)
        CROSS JOIN LATERAL (
            SELECT t.payment_id FROM :payments.transactions t
            WHERE t.provider = 'stripe'::text AND t.environment = env
              AND t.provider_customer_id >= k.customer AND t.provider_customer_id <= k.customer
            ORDER BY t.provider_customer_id OFFSET 0) t
        WHERE t.payment_id IS NOT NULL  -- a row that Billhook did not write
          AND NOT EXISTS (
            SELECT FROM :billhook.payment_sources s
            WHERE s.payment_id = t.payment_id AND s.subject_type IS NOT NULL OFFSET 0);
    END IF;
    IF NOT wanted ? 'refs'::text AND unnamed = '{}'::bigint[] THEN
        RETURN;
    END IF;
    LOOP
        SELECT coalesce(array_agg(DISTINCT r.payment_id), '{}'::bigint[]) INTO ids
        FROM jsonb_to_recordset(wanted -> 'refs'::text) AS w(type text, id text)
        CROSS JOIN LATERAL (
            SELECT r.payment_id FROM :billhook.payment_refs r
            WHERE r.environment = env AND r.object_type = w.type AND r.object_id = w.id OFFSET 0) r;
        ids := ids || unnamed;
        EXIT WHEN ids <@ locked OR NOT wanted ? 'locks'::text;
        PERFORM pg_advisory_xact_lock(hashtextextended('billhook.payment'::text, p.id)) FROM (
            SELECT DISTINCT u.id FROM unnest(ids) AS u(id) ORDER BY u.id) AS p;
        locked := ids;
    END LOOP;
    IF ids <> '{}'::bigint[] THEN
        SELECT json_agg(json_build_array(object_type, object_id, payment_id)) INTO refs
        FROM :billhook.payment_refs WHERE payment_id = ANY (ids);
        SELECT json_agg(json_build_array(payment_id, extract(epoch FROM version_at)::bigint,
            version_event_id, object_type, object_id, outcome, place, type, subject_type,
            subject_id, customer_id, email, amount, full_amount, currency, presentment_amount,
            presentment_currency, out_of_band, description,
            extract(epoch FROM happened_at)::bigint,
            extract(epoch FROM provider_created_at)::bigint, related))
        INTO sources
        FROM :billhook.payment_sources WHERE payment_id = ANY (ids);
        SELECT json_agg(json_build_array(payment_id, extract(epoch FROM version_at)::bigint,
            version_event_id, object_type, object_id, status, amount, currency,
            presentment_amount, presentment_currency, description, payment_intent_id,
            charge_id, extract(epoch FROM provider_created_at)::bigint, version_rank))
        INTO refunds
        FROM :billhook.payment_refunds WHERE payment_id = ANY (ids);
        SELECT json_agg(json_build_array(id, payment_id, type, status, subject_type, subject_id,
            provider_customer_id, customer_email_snapshot, provider_object_type,
            provider_object_id, provider_parent_object_type, provider_parent_object_id,
            related_object_ids, amount, amount_refunded, amount_out_of_band, currency, description,
            extract(epoch FROM paid_at)::bigint, extract(epoch FROM failed_at)::bigint,
            extract(epoch FROM refunded_at)::bigint, extract(epoch FROM canceled_at)::bigint,
            extract(epoch FROM provider_created_at)::bigint))
        INTO transactions
        FROM :payments.transactions WHERE payment_id = ANY (ids);
    END IF;
    SELECT json_agg(nextval('billhook.payment_ids'::regclass)) INTO new_ids
    FROM generate_series(1::bigint, (wanted ->> 'new_payments'::text)::bigint);
    loaded := json_build_object('refs', refs, 'sources', sources, 'refunds', refunds,
        'transactions', transactions, 'new_ids', new_ids);
END $$;
