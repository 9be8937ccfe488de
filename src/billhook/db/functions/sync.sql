-- What Stripe answered to a request of ours: one page of a list, or one object.
CREATE OR REPLACE FUNCTION billhook.project_fetched(env text, kind text, fetched jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    entry jsonb;
BEGIN
    CASE kind
    WHEN 'customer' THEN
        PERFORM billhook.project_customers(env, fetched);
    WHEN 'product' THEN
        PERFORM billhook.take_turns(VARIADIC ARRAY(
            SELECT 'billhook.catalog:' || (x ->> 'product_id'::text) FROM pg_catalog.jsonb_array_elements(fetched) x));
        PERFORM billhook.project_products(env, fetched);
    WHEN 'price' THEN
        PERFORM billhook.take_turns(VARIADIC ARRAY(
            SELECT 'billhook.catalog:' || (x ->> 'price_id'::text) FROM pg_catalog.jsonb_array_elements(fetched) x));
        PERFORM billhook.project_prices(env, fetched);
    WHEN 'subscription' THEN
        FOR entry IN
            SELECT pg_catalog.jsonb_build_object('customer_id', x -> 'customer_id'::text,
                'subject_type', x -> 'subject_type'::text, 'subject_id', x -> 'subject_id'::text,
                'kind', 'metadata', 'ref', '', 'at', x -> 'at'::text, 'outside_ledger', true)
            FROM pg_catalog.jsonb_array_elements(fetched) x
            WHERE x ->> 'subject_id'::text IS NOT NULL
            ORDER BY x ->> 'customer_id'::text
        LOOP
            PERFORM billhook.record_claim(env, entry, pg_catalog.to_timestamp((entry ->> 'at'::text)::bigint));
        END LOOP;
        PERFORM pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.hashtextextended(key, 0)) FROM (
            SELECT DISTINCT billhook.customer_key(env, x ->> 'customer_id'::text) AS key
            FROM pg_catalog.jsonb_array_elements(fetched) x
            WHERE x ->> 'subject_id'::text IS NULL ORDER BY 1) AS keys;
        PERFORM billhook.project_subscriptions(env, fetched);
    END CASE;
END $$;

-- A page of a sync's list, how far its range is now read, and the range that was split off from it.
-- One call, so one round trip. `held` is false, and nothing is written, for whoever lost the lease;
-- without a lease's name nobody asks.
CREATE OR REPLACE FUNCTION billhook.write_page(
    lease text, its_holder uuid, env text, kind text, fetched jsonb, part jsonb, older jsonb,
    OUT held boolean, OUT added bigint)
LANGUAGE plpgsql AS $$
BEGIN
    IF lease IS NOT NULL THEN
        PERFORM FROM billhook.leases WHERE name = lease AND holder = its_holder FOR KEY SHARE;
        held := FOUND;
        IF NOT held THEN
            RETURN;
        END IF;
    END IF;
    IF pg_catalog.jsonb_array_length(fetched) > 0 THEN
        PERFORM billhook.project_fetched(env, kind, fetched);
    END IF;
    UPDATE billhook.sync_ranges SET since = (part ->> 'since'::text)::bigint, after = part ->> 'after'::text,
        objects = (part ->> 'objects'::text)::integer, done = (part ->> 'done'::text)::boolean
    WHERE id = (part ->> 'id'::text)::bigint;
    IF older IS NOT NULL THEN
        INSERT INTO billhook.sync_ranges (environment, list, variant, since, upto)
        VALUES (env, older ->> 'list'::text, (older ->> 'variant'::text)::smallint,
            (older ->> 'since'::text)::bigint, (older ->> 'upto'::text)::bigint)
        RETURNING id INTO added;
    END IF;
END $$;

-- What Stripe confirmed to be gone.
CREATE OR REPLACE FUNCTION billhook.delete_fetched(env text, kind text, gone text, at bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF kind = 'customer' THEN
        PERFORM billhook.delete_customers(env, ARRAY[gone]);
    ELSE
        IF kind IN ('product', 'price') THEN
            PERFORM billhook.take_turns('billhook.catalog:' || gone);
        END IF;
        PERFORM billhook.delete_object(env, kind, gone, at);
    END IF;
    INSERT INTO billhook.tombstones AS t (
        environment, object_type, object_id, deleted_at, outside_ledger)
    VALUES (env, kind, gone, pg_catalog.to_timestamp(at), true)
    ON CONFLICT (environment, object_type, object_id) DO UPDATE SET outside_ledger = true;
END $$;
