-- What an operator's work needs: leases, the state of a sync, archives, and the indexes of the lists.

-- Who does what only one may do at a time, for any number of processes, and behind a pooler that
-- knows no sessions. A holder that dies loses its lease when it runs out.
CREATE TABLE billhook.leases (
    name   text PRIMARY KEY,
    holder uuid NOT NULL,
    until  timestamptz NOT NULL
);

-- A sync of an environment, the last one or the one that runs. `finished_at` is null while it runs
-- and after it was stopped; then the next one goes on where it stopped.
CREATE TABLE billhook.syncs (
    environment text PRIMARY KEY CHECK (environment IN ('test', 'live')),
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    result      jsonb
);

-- A part of a list: objects created in [since, upto), of which those up to `after` (Stripe's
-- starting_after; newest first) are read. Parts are split while others have nothing to do.
CREATE TABLE billhook.sync_ranges (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    environment text NOT NULL REFERENCES billhook.syncs (environment) ON DELETE CASCADE,
    list        text NOT NULL,
    variant     smallint NOT NULL,  -- a list may need several requests: active and inactive
    since       bigint NOT NULL,
    upto        bigint,
    after       text,
    objects     integer NOT NULL DEFAULT 0,
    done        boolean NOT NULL DEFAULT false
);
CREATE INDEX sync_ranges_by_environment ON billhook.sync_ranges (environment);

-- What Stripe answered to a request of ours: one page of a list, or one object.
CREATE FUNCTION billhook.project_fetched(env text, kind text, fetched jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    entry jsonb;
BEGIN
    CASE kind
    WHEN 'customer' THEN
        PERFORM billhook.project_customers(env, fetched);
    WHEN 'product' THEN
        PERFORM billhook.take_turns(VARIADIC ARRAY(
            SELECT 'billhook.catalog:' || (x ->> 'product_id') FROM jsonb_array_elements(fetched) x));
        PERFORM billhook.project_products(env, fetched);
    WHEN 'price' THEN
        PERFORM billhook.take_turns(VARIADIC ARRAY(
            SELECT 'billhook.catalog:' || (x ->> 'price_id') FROM jsonb_array_elements(fetched) x));
        PERFORM billhook.project_prices(env, fetched);
    WHEN 'subscription' THEN
        FOR entry IN
            SELECT jsonb_build_object('customer_id', x -> 'customer_id',
                'subject_type', x -> 'subject_type', 'subject_id', x -> 'subject_id',
                'kind', 'metadata', 'ref', '', 'at', x -> 'at', 'outside_ledger', true)
            FROM jsonb_array_elements(fetched) x
            WHERE x ->> 'subject_id' IS NOT NULL
            ORDER BY x ->> 'customer_id'
        LOOP
            PERFORM billhook.record_claim(env, entry, to_timestamp((entry ->> 'at')::bigint));
        END LOOP;
        PERFORM pg_advisory_xact_lock_shared(hashtextextended(key, 0)) FROM (
            SELECT DISTINCT billhook.customer_key(env, x ->> 'customer_id') AS key
            FROM jsonb_array_elements(fetched) x
            WHERE x ->> 'subject_id' IS NULL ORDER BY 1) AS keys;
        PERFORM billhook.project_subscriptions(env, fetched);
    END CASE;
END $$;

-- A page of a sync's list, how far its range is now read, and the range that was split off from it.
-- One call, so one round trip. `held` is false, and nothing is written, for whoever lost the lease;
-- without a lease's name nobody asks.
CREATE FUNCTION billhook.write_page(
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
    IF jsonb_array_length(fetched) > 0 THEN
        PERFORM billhook.project_fetched(env, kind, fetched);
    END IF;
    UPDATE billhook.sync_ranges SET since = (part ->> 'since')::bigint, after = part ->> 'after',
        objects = (part ->> 'objects')::integer, done = (part ->> 'done')::boolean
    WHERE id = (part ->> 'id')::bigint;
    IF older IS NOT NULL THEN
        INSERT INTO billhook.sync_ranges (environment, list, variant, since, upto)
        VALUES (env, older ->> 'list', (older ->> 'variant')::smallint,
            (older ->> 'since')::bigint, (older ->> 'upto')::bigint)
        RETURNING id INTO added;
    END IF;
END $$;

-- What Stripe confirmed to be gone.
CREATE FUNCTION billhook.delete_fetched(env text, kind text, gone text, at bigint) RETURNS void
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
    VALUES (env, kind, gone, to_timestamp(at), true)
    ON CONFLICT (environment, object_type, object_id) DO UPDATE SET outside_ledger = true;
END $$;

-- Another account was connected: the rows of the one before are kept here, as they were.
CREATE TABLE billhook.archives (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    environment text NOT NULL,
    account_id  text,
    archived_at timestamptz NOT NULL DEFAULT now(),
    restored_at timestamptz
);
CREATE TABLE billhook.archived_rows (
    archive_id uuid NOT NULL REFERENCES billhook.archives (id),
    relation   text NOT NULL,
    content    jsonb NOT NULL
);
CREATE INDEX archived_rows_by_archive ON billhook.archived_rows (archive_id, relation);

-- Whether the account that was connected when an event came is the one that is connected now: that
-- of the first archive made after it, or else the present one. Its rows must be here for the event
-- to be applied again.
CREATE FUNCTION billhook.is_of_this_account(env text, received_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT a.account_id IS NOT DISTINCT FROM (
            SELECT provider_account_id FROM payments.provider_connections
            WHERE provider = 'stripe' AND environment = env)
        FROM billhook.archives a
        WHERE a.environment = env AND a.archived_at > is_of_this_account.received_at
        ORDER BY a.archived_at LIMIT 1), true)
$$;

-- The tables whose rows belong to one Stripe account. Not the ledger: what happened, happened, and
-- an update there would fire the app's triggers.
CREATE FUNCTION billhook.account_tables() RETURNS regclass[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY[
        'payments.stripe_products', 'payments.stripe_prices', 'payments.customers',
        'payments.customer_mappings', 'payments.stripe_checkout_sessions',
        'payments.stripe_customer_portal_sessions', 'payments.stripe_subscriptions',
        'payments.stripe_subscription_items', 'payments.transactions',
        'billhook.customer_claims', 'billhook.payment_refs', 'billhook.payment_sources',
        'billhook.payment_refunds', 'billhook.fetched_payments', 'billhook.tombstones',
        'billhook.refreshes', 'billhook.event_retries']::regclass[]
$$;

-- Move an environment's rows into a new archive. There is one even when there were no rows: it
-- says which account the events before it belong to.
CREATE FUNCTION billhook.archive(env text, account text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    relation regclass;
    archive uuid := gen_random_uuid();
BEGIN
    INSERT INTO billhook.archives (id, environment, account_id) VALUES (archive, env, account);
    FOREACH relation IN ARRAY billhook.account_tables() LOOP
        EXECUTE format(
            'WITH gone AS (DELETE FROM %s AS t WHERE environment = $1 RETURNING to_jsonb(t) AS content)
             INSERT INTO billhook.archived_rows (archive_id, relation, content)
             SELECT $2, $3, content FROM gone', relation)
        USING env, archive, relation::text;
    END LOOP;
    DELETE FROM billhook.syncs WHERE environment = env;
    DELETE FROM billhook.pulls WHERE environment = env;
    RETURN archive;
END $$;

-- Bring an archive's rows back; what stands in their place is archived first. Rows that the app
-- hung onto ours by a foreign key must be gone or deferred, as with any deletion.
CREATE FUNCTION billhook.restore(wanted uuid, account_now text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    env text;
    relation regclass;
    rows_of_it bigint;
    moved bigint := 0;
BEGIN
    UPDATE billhook.archives SET restored_at = now()
    WHERE id = wanted AND restored_at IS NULL RETURNING environment INTO env;
    IF env IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM billhook.archive(env, account_now);
    FOREACH relation IN ARRAY billhook.account_tables() LOOP
        EXECUTE format(
            'WITH back AS (DELETE FROM billhook.archived_rows WHERE archive_id = $1 AND relation = $2
                           RETURNING content)
             INSERT INTO %1$s SELECT r.* FROM back, jsonb_populate_record(NULL::%1$s, back.content) r',
            relation)
        USING wanted, relation::text;
        GET DIAGNOSTICS rows_of_it = ROW_COUNT;
        moved := moved + rows_of_it;
    END LOOP;
    RETURN moved;
END $$;

-- The order of the lists, so that each page is one short walk along an index.
CREATE INDEX transactions_newest ON payments.transactions
    (environment, (coalesce(provider_created_at, created_at)) DESC, id DESC);
CREATE INDEX transactions_of_email ON payments.transactions (environment, lower(customer_email_snapshot))
    WHERE provider_customer_id IS NULL AND customer_email_snapshot IS NOT NULL;
CREATE INDEX subscriptions_last_changed ON payments.stripe_subscriptions
    (environment, updated_at DESC, id DESC);
CREATE INDEX customers_by_display_name ON payments.customers
    (environment, deleted, (coalesce(email, name, provider_customer_id)), provider_customer_id);
CREATE INDEX customers_of_email ON payments.customers (environment, lower(email))
    WHERE email IS NOT NULL;
CREATE INDEX webhook_events_newest ON payments.webhook_events
    (environment, received_at DESC, id DESC);
CREATE INDEX products_by_name ON payments.stripe_products (environment, name, product_id);
