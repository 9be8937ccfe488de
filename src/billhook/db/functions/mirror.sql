-- The mirror: set-based, version-guarded writes of what `billhook.projections` read from Stripe's
-- objects. The same functions serve one event and one page of a sync. Every row comes as JSON:
-- {…columns, "at": epoch seconds, "rank": 0|1|2, "event_id", "previous", "raw"}. What was fetched
-- has no event id; fetched again without a change, it writes nothing.

-- Is `previous` (an event's previous_attributes) what `state` was? Stripe diffs per key, also
-- inside hashes; null stands for "was not there" (stripe-facts 24).
CREATE OR REPLACE FUNCTION billhook.was_before(state jsonb, previous jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    field text;
    was jsonb;
BEGIN
    FOR field, was IN SELECT * FROM pg_catalog.jsonb_each(previous) LOOP
        IF pg_catalog.jsonb_typeof(was) = 'object' AND pg_catalog.jsonb_typeof(state -> field) = 'object' THEN
            IF NOT billhook.was_before(state -> field, was) THEN
                RETURN false;
            END IF;
        ELSIF coalesce(state -> field, 'null') IS DISTINCT FROM was THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- Two states of one object from the same second and of the same kind: does the new one win?
-- previous_attributes decide; where they don't, what was fetched shows before what an event said,
-- and of two events the greater id. Where they don't, and where the two are not the only ones of
-- their second, the object is marked, so that Stripe is asked.
CREATE OR REPLACE FUNCTION billhook.wins_tie(
    environment text, object_type text, object_id text,
    old_event_id text, old_previous jsonb, old_state jsonb,
    new_event_id text, new_previous jsonb, new_state jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    new_is_later boolean := coalesce(billhook.was_before(old_state, new_previous), false);
    old_is_later boolean := coalesce(billhook.was_before(new_state, old_previous), false);
    wins boolean;
    third boolean;
BEGIN
    IF new_event_id = old_event_id THEN
        RETURN false;
    END IF;
    wins := CASE WHEN new_is_later <> old_is_later THEN new_is_later
                 WHEN new_event_id IS NULL THEN true
                 WHEN old_event_id IS NULL THEN false
                 ELSE new_event_id > old_event_id END;
    third := EXISTS (
        SELECT FROM billhook.ties t
        WHERE t.environment = wins_tie.environment AND t.object_type = wins_tie.object_type
          AND t.object_id = wins_tie.object_id AND t.event_id = coalesce(old_event_id, ''));
    INSERT INTO billhook.ties (environment, object_type, object_id, event_id)
    VALUES (environment, object_type, object_id,
        coalesce(CASE WHEN wins THEN new_event_id ELSE old_event_id END, ''))
    ON CONFLICT ON CONSTRAINT ties_pkey DO UPDATE SET event_id = EXCLUDED.event_id;
    IF (third OR new_is_later = old_is_later) AND old_state IS DISTINCT FROM new_state THEN
        INSERT INTO billhook.refreshes (environment, object_type, object_id, reason)
        VALUES (environment, object_type, object_id, 'several changes in one second')
        ON CONFLICT ON CONSTRAINT refreshes_pkey
        DO UPDATE SET marked_at = clock_timestamp(), next_at = now();
    END IF;
    RETURN wins;
END $$;

-- A sync asks for a customer's default payment method and source in full, an event names their
-- ids only. What is known of the same id stays.
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

CREATE OR REPLACE FUNCTION billhook.project_customers(env text, changes jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO payments.customers AS c (
        provider, environment, provider_customer_id, email, name, phone, deleted, metadata, raw,
        provider_created_at, synced_at,
        provider_event_at, provider_event_rank, provider_event_id, provider_event_previous)
    SELECT 'stripe', env, x.customer_id, x.email, x.name, x.phone, x.deleted, x.metadata, x.raw,
        pg_catalog.to_timestamp(x.created), now(),
        pg_catalog.to_timestamp(x.at), x.rank, x.event_id, x.previous
    FROM pg_catalog.jsonb_to_recordset(changes) AS x(
        customer_id text, email text, name text, phone text, deleted boolean, metadata jsonb,
        raw jsonb, created bigint, at bigint, rank smallint, event_id text, previous jsonb)
    ORDER BY x.customer_id
    ON CONFLICT (provider, environment, provider_customer_id) DO UPDATE SET
        email = EXCLUDED.email,
        name = EXCLUDED.name,
        phone = EXCLUDED.phone,
        deleted = c.deleted OR EXCLUDED.deleted,  -- there is no way back
        metadata = EXCLUDED.metadata,
        raw = billhook.keep_expanded(c.raw, EXCLUDED.raw),
        provider_created_at = coalesce(EXCLUDED.provider_created_at, c.provider_created_at),
        synced_at = now(),
        provider_event_at = EXCLUDED.provider_event_at,
        provider_event_rank = EXCLUDED.provider_event_rank,
        provider_event_id = EXCLUDED.provider_event_id,
        provider_event_previous = EXCLUDED.provider_event_previous
    WHERE c.provider_event_at IS NULL
       OR (EXCLUDED.provider_event_id IS NOT NULL OR c.raw IS DISTINCT FROM EXCLUDED.raw OR c.deleted <> EXCLUDED.deleted)
      AND ((c.provider_event_at, c.provider_event_rank)
            < (EXCLUDED.provider_event_at, EXCLUDED.provider_event_rank)
       OR ((c.provider_event_at, c.provider_event_rank)
            = (EXCLUDED.provider_event_at, EXCLUDED.provider_event_rank)
           AND billhook.wins_tie(env, 'customer', c.provider_customer_id,
                c.provider_event_id, c.provider_event_previous, c.raw,
                EXCLUDED.provider_event_id, EXCLUDED.provider_event_previous, EXCLUDED.raw)))
$$;

-- Customers that Stripe says are gone. Their details stay; their mappings go.
CREATE OR REPLACE FUNCTION billhook.delete_customers(env text, customer_ids text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    customer text;
BEGIN
    INSERT INTO payments.customers AS c (provider, environment, provider_customer_id, deleted, raw)
    SELECT 'stripe', env, id, true, pg_catalog.jsonb_build_object('id', id)
    FROM pg_catalog.unnest(customer_ids) AS id ORDER BY id
    ON CONFLICT (provider, environment, provider_customer_id) DO UPDATE SET
        deleted = true, synced_at = now()
    WHERE NOT c.deleted;

    FOREACH customer IN ARRAY customer_ids LOOP
        -- Its subjects as well: another customer may get them now, or claim them at this moment.
        PERFORM billhook.take_turns(VARIADIC pg_catalog.array_prepend(billhook.customer_key(env, customer), ARRAY(
            SELECT billhook.subject_key(env, c.subject_type, c.subject_id)
            FROM billhook.customer_claims c
            WHERE c.environment = env AND c.customer_id = customer)));
        PERFORM billhook.resolve_mappings(env, customer, NULL, NULL);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION billhook.project_products(env text, changes jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO payments.stripe_products AS p (
        environment, product_id, name, description, active, default_price_id, metadata, raw,
        synced_at, provider_event_at, provider_event_rank, provider_event_id,
        provider_event_previous)
    SELECT env, x.product_id, x.name, x.description, x.active, x.default_price_id, x.metadata,
        x.raw, now(), pg_catalog.to_timestamp(x.at), x.rank, x.event_id, x.previous
    FROM pg_catalog.jsonb_to_recordset(changes) AS x(
        product_id text, name text, description text, active boolean, default_price_id text,
        metadata jsonb, raw jsonb, at bigint, rank smallint, event_id text, previous jsonb)
    WHERE NOT EXISTS (
        SELECT FROM billhook.tombstones t
        WHERE t.environment = env AND t.object_type = 'product' AND t.object_id = x.product_id
          AND t.deleted_at >= pg_catalog.to_timestamp(x.at))
    ORDER BY x.product_id
    ON CONFLICT (environment, product_id) DO UPDATE SET
        name = EXCLUDED.name,
        description = EXCLUDED.description,
        active = EXCLUDED.active,
        default_price_id = EXCLUDED.default_price_id,
        metadata = EXCLUDED.metadata,
        raw = EXCLUDED.raw,
        synced_at = now(),
        provider_event_at = EXCLUDED.provider_event_at,
        provider_event_rank = EXCLUDED.provider_event_rank,
        provider_event_id = EXCLUDED.provider_event_id,
        provider_event_previous = EXCLUDED.provider_event_previous
    WHERE p.provider_event_at IS NULL
       OR (EXCLUDED.provider_event_id IS NOT NULL OR p.raw IS DISTINCT FROM EXCLUDED.raw)
      AND ((p.provider_event_at, p.provider_event_rank)
            < (EXCLUDED.provider_event_at, EXCLUDED.provider_event_rank)
       OR ((p.provider_event_at, p.provider_event_rank)
            = (EXCLUDED.provider_event_at, EXCLUDED.provider_event_rank)
           AND billhook.wins_tie(env, 'product', p.product_id,
                p.provider_event_id, p.provider_event_previous, p.raw,
                EXCLUDED.provider_event_id, EXCLUDED.provider_event_previous, EXCLUDED.raw)))
$$;

CREATE OR REPLACE FUNCTION billhook.project_prices(env text, changes jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO payments.stripe_prices AS p (
        environment, price_id, product_id, active, currency, unit_amount, unit_amount_decimal,
        type, lookup_key, billing_scheme, tax_behavior, recurring_interval,
        recurring_interval_count, metadata, raw, synced_at, provider_event_at,
        provider_event_rank, provider_event_id, provider_event_previous)
    SELECT env, x.price_id, x.product_id, x.active, x.currency, x.unit_amount,
        x.unit_amount_decimal, x.type, x.lookup_key, x.billing_scheme, x.tax_behavior,
        x.recurring_interval, x.recurring_interval_count, x.metadata, x.raw, now(),
        pg_catalog.to_timestamp(x.at), x.rank, x.event_id, x.previous
    FROM pg_catalog.jsonb_to_recordset(changes) AS x(
        price_id text, product_id text, active boolean, currency text, unit_amount bigint,
        unit_amount_decimal text, type text, lookup_key text, billing_scheme text,
        tax_behavior text, recurring_interval text, recurring_interval_count integer,
        metadata jsonb, raw jsonb, at bigint, rank smallint, event_id text, previous jsonb)
    WHERE NOT EXISTS (
        SELECT FROM billhook.tombstones t
        WHERE t.environment = env AND t.object_type = 'price' AND t.object_id = x.price_id
          AND t.deleted_at >= pg_catalog.to_timestamp(x.at))
    ORDER BY x.price_id
    ON CONFLICT (environment, price_id) DO UPDATE SET
        product_id = EXCLUDED.product_id,
        active = EXCLUDED.active,
        currency = EXCLUDED.currency,
        unit_amount = EXCLUDED.unit_amount,
        unit_amount_decimal = EXCLUDED.unit_amount_decimal,
        type = EXCLUDED.type,
        lookup_key = EXCLUDED.lookup_key,
        billing_scheme = EXCLUDED.billing_scheme,
        tax_behavior = EXCLUDED.tax_behavior,
        recurring_interval = EXCLUDED.recurring_interval,
        recurring_interval_count = EXCLUDED.recurring_interval_count,
        metadata = EXCLUDED.metadata,
        raw = EXCLUDED.raw,
        synced_at = now(),
        provider_event_at = EXCLUDED.provider_event_at,
        provider_event_rank = EXCLUDED.provider_event_rank,
        provider_event_id = EXCLUDED.provider_event_id,
        provider_event_previous = EXCLUDED.provider_event_previous
    WHERE p.provider_event_at IS NULL
       OR (EXCLUDED.provider_event_id IS NOT NULL OR p.raw IS DISTINCT FROM EXCLUDED.raw)
      AND ((p.provider_event_at, p.provider_event_rank)
            < (EXCLUDED.provider_event_at, EXCLUDED.provider_event_rank)
       OR ((p.provider_event_at, p.provider_event_rank)
            = (EXCLUDED.provider_event_at, EXCLUDED.provider_event_rank)
           AND billhook.wins_tie(env, 'price', p.price_id,
                p.provider_event_id, p.provider_event_previous, p.raw,
                EXCLUDED.provider_event_id, EXCLUDED.provider_event_previous, EXCLUDED.raw)))
$$;

-- What Stripe no longer has: remove the row and leave a tombstone. A row whose state is newer than
-- the deletion was made anew under its old id (products may be) and stays.
CREATE OR REPLACE FUNCTION billhook.delete_object(env text, kind text, gone text, at bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billhook.tombstones AS t (environment, object_type, object_id, deleted_at)
    VALUES (env, kind, gone, pg_catalog.to_timestamp(at))
    ON CONFLICT (environment, object_type, object_id) DO UPDATE
        SET deleted_at = EXCLUDED.deleted_at WHERE t.deleted_at < EXCLUDED.deleted_at;
    IF kind = 'product' THEN
        DELETE FROM payments.stripe_products
        WHERE environment = env AND product_id = gone
          AND coalesce(provider_event_at, '-infinity') <= pg_catalog.to_timestamp(at);
    ELSIF kind = 'price' THEN
        DELETE FROM payments.stripe_prices
        WHERE environment = env AND price_id = gone
          AND coalesce(provider_event_at, '-infinity') <= pg_catalog.to_timestamp(at);
    ELSE
        WITH removed AS (
            DELETE FROM payments.stripe_subscriptions
            WHERE environment = env AND subscription_id = gone
              AND coalesce(provider_event_at, '-infinity') <= pg_catalog.to_timestamp(at)
            RETURNING subscription_id)
        DELETE FROM payments.stripe_subscription_items i USING removed
        WHERE i.environment = env AND i.subscription_id = removed.subscription_id;
    END IF;
END $$;

-- Subscriptions with their items. The items go with the state that is shown: an older event
-- leaves them alone. `items_complete` is false where Stripe sent only the first page.
CREATE OR REPLACE FUNCTION billhook.project_subscriptions(env text, changes jsonb) RETURNS void
LANGUAGE sql AS $$
    WITH incoming AS (
        SELECT x.*, coalesce(x.subject_type, s.subject_type) AS resolved_type,
            coalesce(x.subject_id, s.subject_id) AS resolved_id
        FROM pg_catalog.jsonb_to_recordset(changes) AS x(
            subscription_id text, customer_id text, subject_type text, subject_id text,
            status text, current_period_start bigint, current_period_end bigint,
            cancel_at_period_end boolean, cancel_at bigint, canceled_at bigint,
            trial_start bigint, trial_end bigint, pause_collection jsonb,
            latest_invoice_id text, metadata jsonb,
            items jsonb, items_complete boolean,
            raw jsonb, at bigint, rank smallint, event_id text, previous jsonb)
        LEFT JOIN LATERAL billhook.subject_as_of(env, x.customer_id, pg_catalog.to_timestamp(x.at)) s
            ON x.subject_type IS NULL
        WHERE NOT EXISTS (
            SELECT FROM billhook.tombstones t
            WHERE t.environment = env AND t.object_type = 'subscription'
              AND t.object_id = x.subscription_id AND t.deleted_at >= pg_catalog.to_timestamp(x.at))
        ORDER BY x.subscription_id
    ), shown AS (
        INSERT INTO payments.stripe_subscriptions AS s (
            environment, subscription_id, customer_id, subject_type, subject_id, status,
            current_period_start, current_period_end, cancel_at_period_end, cancel_at,
            canceled_at, trial_start, trial_end, pause_collection, latest_invoice_id, metadata, raw,
            synced_at,
            provider_event_at, provider_event_rank, provider_event_id, provider_event_previous)
        SELECT env, i.subscription_id, i.customer_id, i.resolved_type, i.resolved_id, i.status,
            pg_catalog.to_timestamp(i.current_period_start), pg_catalog.to_timestamp(i.current_period_end),
            i.cancel_at_period_end, pg_catalog.to_timestamp(i.cancel_at), pg_catalog.to_timestamp(i.canceled_at),
            pg_catalog.to_timestamp(i.trial_start), pg_catalog.to_timestamp(i.trial_end), i.pause_collection,
            i.latest_invoice_id,
            i.metadata, i.raw, now(), pg_catalog.to_timestamp(i.at), i.rank, i.event_id, i.previous
        FROM incoming i
        ON CONFLICT (environment, subscription_id) DO UPDATE SET
            customer_id = EXCLUDED.customer_id,
            subject_type = EXCLUDED.subject_type,
            subject_id = EXCLUDED.subject_id,
            status = EXCLUDED.status,
            current_period_start = EXCLUDED.current_period_start,
            current_period_end = EXCLUDED.current_period_end,
            cancel_at_period_end = EXCLUDED.cancel_at_period_end,
            cancel_at = EXCLUDED.cancel_at,
            canceled_at = EXCLUDED.canceled_at,
            trial_start = EXCLUDED.trial_start,
            trial_end = EXCLUDED.trial_end,
            pause_collection = EXCLUDED.pause_collection,
            latest_invoice_id = EXCLUDED.latest_invoice_id,
            metadata = EXCLUDED.metadata,
            raw = EXCLUDED.raw,
            synced_at = now(),
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous
        WHERE s.provider_event_at IS NULL
           OR (EXCLUDED.provider_event_id IS NOT NULL OR s.raw IS DISTINCT FROM EXCLUDED.raw)
          AND ((s.provider_event_at, s.provider_event_rank)
                < (EXCLUDED.provider_event_at, EXCLUDED.provider_event_rank)
           OR ((s.provider_event_at, s.provider_event_rank)
                = (EXCLUDED.provider_event_at, EXCLUDED.provider_event_rank)
               AND billhook.wins_tie(env, 'subscription', s.subscription_id,
                    s.provider_event_id, s.provider_event_previous, s.raw,
                    EXCLUDED.provider_event_id, EXCLUDED.provider_event_previous, EXCLUDED.raw)))
        RETURNING s.subscription_id
    ), items AS (
        SELECT i.subscription_id, item.*
        FROM incoming i
        JOIN shown USING (subscription_id)
        CROSS JOIN LATERAL pg_catalog.jsonb_to_recordset(i.items) AS item(
            subscription_item_id text, product_id text, price_id text, quantity bigint,
            metadata jsonb, raw jsonb)
        ORDER BY item.subscription_item_id
    ), gone AS (
        DELETE FROM payments.stripe_subscription_items old
        USING incoming i JOIN shown USING (subscription_id)
        WHERE old.environment = env AND old.subscription_id = i.subscription_id
          AND i.items_complete
          AND NOT EXISTS (
              SELECT FROM items WHERE items.subscription_item_id = old.subscription_item_id)
    ), doubt AS (
        INSERT INTO billhook.refreshes (environment, object_type, object_id, reason)
        SELECT env, 'subscription', i.subscription_id, 'more than one page of items'
        FROM incoming i JOIN shown USING (subscription_id)
        WHERE NOT i.items_complete
        ON CONFLICT ON CONSTRAINT refreshes_pkey
        DO UPDATE SET marked_at = clock_timestamp(), next_at = now()
    )
    INSERT INTO payments.stripe_subscription_items AS old (
        environment, subscription_item_id, subscription_id, product_id, price_id, quantity,
        metadata, raw)
    SELECT env, subscription_item_id, subscription_id, product_id, price_id, quantity, metadata, raw
    FROM items
    ON CONFLICT (environment, subscription_item_id) DO UPDATE SET
        subscription_id = EXCLUDED.subscription_id,
        product_id = EXCLUDED.product_id,
        price_id = EXCLUDED.price_id,
        quantity = EXCLUDED.quantity,
        metadata = EXCLUDED.metadata,
        raw = EXCLUDED.raw
    WHERE old.raw IS DISTINCT FROM EXCLUDED.raw OR old.subscription_id <> EXCLUDED.subscription_id
$$;

-- A Checkout Session that one of our rows stands for: found by Stripe's id or, when its webhook
-- overtook our own note of that id, by the row id in the session's metadata (which only the holder
-- of the secret key can set; client_reference_id is open to anyone with a payment link).
-- Returns whether there was such a row.
CREATE OR REPLACE FUNCTION billhook.project_checkout_session(env text, x jsonb, session jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    ours payments.stripe_checkout_sessions;
    newer boolean;
BEGIN
    SELECT * INTO ours FROM payments.stripe_checkout_sessions
    WHERE environment = env AND checkout_session_id = x ->> 'session_id'::text
    FOR UPDATE;
    IF NOT FOUND THEN
        SELECT * INTO ours FROM payments.stripe_checkout_sessions
        WHERE id = (x ->> 'row_id'::text)::uuid AND environment = env AND checkout_session_id IS NULL
        FOR UPDATE;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;

    newer := ours.provider_event_at IS NULL
        OR (ours.provider_event_at, ours.provider_event_rank)
            < (pg_catalog.to_timestamp((x ->> 'at'::text)::bigint), (x ->> 'rank'::text)::smallint);
    UPDATE payments.stripe_checkout_sessions SET
        checkout_session_id = x ->> 'session_id'::text,
        status = CASE WHEN newer THEN x ->> 'status'::text ELSE status END,
        payment_status = CASE WHEN newer
            THEN coalesce(x ->> 'payment_status'::text, payment_status)
            ELSE coalesce(payment_status, x ->> 'payment_status'::text) END,
        customer_id = CASE WHEN newer
            THEN coalesce(x ->> 'customer_id'::text, customer_id)
            ELSE coalesce(customer_id, x ->> 'customer_id'::text) END,
        payment_intent_id = CASE WHEN newer
            THEN coalesce(x ->> 'payment_intent_id'::text, payment_intent_id)
            ELSE coalesce(payment_intent_id, x ->> 'payment_intent_id'::text) END,
        subscription_id = CASE WHEN newer
            THEN coalesce(x ->> 'subscription_id'::text, subscription_id)
            ELSE coalesce(subscription_id, x ->> 'subscription_id'::text) END,
        url = coalesce(x ->> 'url'::text, url),
        raw = CASE WHEN newer THEN session ELSE raw END,
        last_error = NULL,
        provider_event_at = CASE WHEN newer
            THEN pg_catalog.to_timestamp((x ->> 'at'::text)::bigint) ELSE provider_event_at END,
        provider_event_rank = CASE WHEN newer
            THEN (x ->> 'rank'::text)::smallint ELSE provider_event_rank END,
        provider_event_id = CASE WHEN newer THEN x ->> 'event_id'::text ELSE provider_event_id END
    WHERE id = ours.id;
    RETURN true;
END $$;
