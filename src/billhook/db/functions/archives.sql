-- Another account was connected: its rows are archived, and can be restored.

-- The tables whose rows belong to one Stripe account. Not the ledger: it keeps what happened, and
-- an update there would fire the app's triggers.
CREATE OR REPLACE FUNCTION billhook.account_tables() RETURNS regclass[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY[
        'payments.stripe_products', 'payments.stripe_prices', 'payments.customers',
        'payments.customer_mappings', 'payments.stripe_checkout_sessions',
        'payments.stripe_customer_portal_sessions', 'payments.stripe_subscriptions',
        'payments.stripe_subscription_items', 'payments.transactions',
        'billhook.customer_claims', 'billhook.payment_refs', 'billhook.payment_sources',
        'billhook.payment_refunds', 'billhook.fetched_payments', 'billhook.tombstones',
        'billhook.refreshes', 'billhook.ties', 'billhook.event_retries']::regclass[]
$$;

-- Move an environment's rows into a new archive. There is one even when there were no rows: it
-- says which account the events before it belong to.
CREATE OR REPLACE FUNCTION billhook.archive(env text, account text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    relation regclass;
    archive uuid := gen_random_uuid();
BEGIN
    INSERT INTO billhook.archives (id, environment, account_id) VALUES (archive, env, account);
    FOREACH relation IN ARRAY billhook.account_tables() LOOP
        EXECUTE pg_catalog.format(
            'WITH gone AS (DELETE FROM %s AS t WHERE environment = $1 RETURNING pg_catalog.to_jsonb(t) AS content)
             INSERT INTO billhook.archived_rows (archive_id, relation, content)
             SELECT $2, $3, content FROM gone', relation)
        USING env, archive, relation::text;
    END LOOP;
    DELETE FROM billhook.syncs WHERE environment = env;
    DELETE FROM billhook.pulls WHERE environment = env;
    RETURN archive;
END $$;

-- Insert the rows of one table that an archive holds. Columns that the app added come back with
-- their values; what is generated is computed, and what is new since then has its default.
CREATE OR REPLACE FUNCTION billhook.bring_back(archive uuid, to_table regclass, on_conflict text DEFAULT '')
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    names text;
    values text;
    brought bigint := 0;
BEGIN
    -- All of an archive were put away at one moment, with the same columns.
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', '), pg_catalog.string_agg(pg_catalog.format('r.%I', a.attname), ', ')
    INTO names, values
    FROM pg_catalog.pg_attribute a, (
        SELECT content FROM billhook.archived_rows
        WHERE archive_id = archive AND relation = to_table::text LIMIT 1) AS one
    WHERE a.attrelid = to_table::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND one.content ? a.attname::text;
    IF names IS NOT NULL THEN
        EXECUTE pg_catalog.format(
            'INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE
             SELECT %3$s FROM billhook.archived_rows kept, pg_catalog.jsonb_populate_record(NULL::%1$s, kept.content) r
             WHERE kept.archive_id = $1 AND kept.relation = $2 %4$s',
            to_table, names, values, on_conflict)
        USING archive, to_table::text;
        GET DIAGNOSTICS brought = ROW_COUNT;
    END IF;
    RETURN brought;
END $$;

-- Bring an archive's rows back; what stands in their place is archived first. Rows that the app
-- hung onto ours by a foreign key must be gone or deferred, as with any deletion.
--
-- Where the archive is of the account that is connected, it is pulled as before, and rows that came
-- since and have no equal in the archive stay as they are. What was told of the others, and what rows
-- follow from (claims, and what is known of payments), billhook/archives.py tells again.
CREATE OR REPLACE FUNCTION billhook.restore(wanted uuid, account_now text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    found billhook.archives;
    present uuid;
    relation regclass;
    moved bigint := 0;
    pull billhook.pulls;
BEGIN
    UPDATE billhook.archives SET restored_at = now()
    WHERE id = wanted AND restored_at IS NULL RETURNING * INTO found;
    IF found.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT * INTO pull FROM billhook.pulls WHERE environment = found.environment;
    present := billhook.archive(found.environment, account_now);
    FOREACH relation IN ARRAY billhook.account_tables() LOOP
        moved := moved + billhook.bring_back(wanted, relation);
    END LOOP;
    DELETE FROM billhook.archived_rows WHERE archive_id = wanted;

    IF found.account_id = account_now THEN
        INSERT INTO billhook.pulls SELECT pull.* WHERE pull.environment IS NOT NULL;
        FOREACH relation IN ARRAY ARRAY[
            'payments.stripe_products', 'payments.stripe_prices', 'payments.customers',
            'payments.stripe_checkout_sessions', 'payments.stripe_customer_portal_sessions',
            'payments.stripe_subscriptions', 'payments.stripe_subscription_items',
            'payments.transactions', 'billhook.payment_refs', 'billhook.event_retries']::regclass[]
        LOOP
            PERFORM billhook.bring_back(present, relation, 'ON CONFLICT DO NOTHING');
        END LOOP;
        PERFORM billhook.bring_back(present, 'billhook.fetched_payments',
            'ON CONFLICT (environment, event_type, object_id) DO UPDATE SET
                told_at = EXCLUDED.told_at, object = EXCLUDED.object');
    END IF;
    RETURN moved;
END $$;
