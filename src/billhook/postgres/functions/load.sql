-- What a batch of events touches, read in one call. Complete keys in, rows out: it contains no rules.
--
-- Without statistics the planner considers any index that begins with `environment` as good as one on
-- the complete key. No code of the app runs in here, so the settings of `load_batch` may leave it
-- no choice. They hold in the functions that it calls; nothing else calls these. The mechanical part is in
-- generated.sql.

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

    loaded := json_build_object(
        'account', CASE WHEN wanted ? 'events'::text THEN billhook.connected_account(env) END,
        'rows', :billhook.load_rows(env, wanted),
        'payments', :billhook.load_payments(env, wanted));
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
    loaded := json_build_object('rows', :billhook.load_payment_rows(ids), 'new_ids', (
        SELECT json_agg(nextval('billhook.payment_ids'::regclass))
        FROM generate_series(1::bigint, (wanted ->> 'new_payments'::text)::bigint)));
END $$;
