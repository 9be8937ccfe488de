-- Another account was connected: its rows are archived, and can be restored.

-- The tables whose rows belong to one Stripe account, and which of their rows do: InsForge's tables
-- also hold those of other payment providers. Not the ledger: it keeps what happened, and an update
-- there would fire the app's triggers.
CREATE OR REPLACE FUNCTION billhook.account_tables()
RETURNS TABLE (relation text, condition text) LANGUAGE sql IMMUTABLE AS $$
    VALUES
        :mirrored_rows,
        ('payments.customer_mappings', 'environment = $1 AND provider = ''stripe'''),
        ('payments.stripe_checkout_sessions', 'environment = $1'),
        ('payments.stripe_customer_portal_sessions', 'environment = $1'),
        ('payments.transactions', 'environment = $1 AND provider = ''stripe'''),
        ('billhook.customer_claims', 'environment = $1'),
        ('billhook.payment_refs', 'environment = $1'),
        ('billhook.payment_sources', 'environment = $1'),
        ('billhook.payment_refunds', 'environment = $1'),
        ('billhook.fetched_payments', 'environment = $1'),
        ('billhook.tombstones', 'environment = $1'),
        ('billhook.refreshes', 'environment = $1'),
        ('billhook.ties', 'environment = $1'),
        ('billhook.event_retries', 'environment = $1')
$$;

-- Move an environment's rows into a new archive, and record whose events the ledger holds. The caller
-- has locked the ledger, so that no event is between the accounts.
CREATE OR REPLACE FUNCTION billhook.archive(env text, account text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    each record;
    archive uuid := pg_catalog.gen_random_uuid();
    remaining bigint;
BEGIN
    INSERT INTO billhook.archives (id, environment, account_id, pull) VALUES (archive, env, account,
        (SELECT pg_catalog.to_jsonb(p) FROM billhook.pulls p WHERE p.environment = env));
    FOR each IN SELECT t.relation, t.condition FROM billhook.account_tables() t LOOP
        EXECUTE pg_catalog.format(
            'WITH gone AS (DELETE FROM %s AS t WHERE %s RETURNING pg_catalog.to_jsonb(t) AS content)
             INSERT INTO billhook.archived_rows (archive_id, relation, content)
             SELECT $2, $3, content FROM gone', each.relation, each.condition)
        USING env, archive, each.relation;
        EXECUTE pg_catalog.format(
            'SELECT pg_catalog.count(*) FROM %s WHERE %s', each.relation, each.condition)
        INTO remaining USING env;
        IF remaining > 0 THEN
            RAISE '% rows of % could not be archived', remaining, each.relation
                USING HINT = 'A trigger on that table keeps rows from being deleted.';
        END IF;
    END LOOP;
    INSERT INTO billhook.event_accounts (environment, event_id, account_id)
        SELECT env, e.provider_event_id, coalesce(account, '') FROM payments.webhook_events e
        WHERE e.provider = 'stripe' AND e.environment = env
        UNION ALL
        SELECT env, a.event_id, coalesce(account, '') FROM billhook.archived_events a
        WHERE a.environment = env
    ON CONFLICT DO NOTHING;
    DELETE FROM billhook.syncs WHERE environment = env;
    DELETE FROM billhook.pulls WHERE environment = env;
    RETURN archive;
END $$;

-- Pull an account's events from where its last archive left off, so that nothing is missed that
-- happened while another one was connected; those of a new account, from `since` on.
CREATE OR REPLACE FUNCTION billhook.begin_pulling(env text, account text, since timestamptz)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO billhook.pulls
    SELECT p.* FROM billhook.archives a, pg_catalog.jsonb_populate_record(NULL::billhook.pulls, a.pull) p
    WHERE a.environment = env AND a.account_id = account AND a.pull IS NOT NULL
    ORDER BY a.archived_at DESC LIMIT 1
    ON CONFLICT DO NOTHING;
    INSERT INTO billhook.pulls (environment, since, cursor_at)
    SELECT env, begin_pulling.since, begin_pulling.since WHERE begin_pulling.since IS NOT NULL
    ON CONFLICT DO NOTHING;
$$;

-- Insert the rows of one table that an archive holds. Columns that the app added come back with
-- their values; what is generated is computed, and what is new since then has its default.
CREATE OR REPLACE FUNCTION billhook.bring_back(archive uuid, to_table text, on_conflict text DEFAULT '')
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    names text;
    values text;
    brought bigint := 0;
BEGIN
    -- All rows of an archive were archived at the same time, with the same columns.
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', '),
        pg_catalog.string_agg(pg_catalog.format('r.%I', a.attname), ', ')
    INTO names, values
    FROM pg_catalog.pg_attribute a, (
        SELECT content FROM billhook.archived_rows
        WHERE archive_id = archive AND relation = to_table LIMIT 1) AS one
    WHERE a.attrelid = to_table::regclass::oid
      AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND one.content ? a.attname::text;
    IF names IS NOT NULL THEN
        EXECUTE pg_catalog.format(
            'INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE
             SELECT %3$s FROM billhook.archived_rows kept,
                 pg_catalog.jsonb_populate_record(NULL::%1$s, kept.content) r
             WHERE kept.archive_id = $1 AND kept.relation = $2 %4$s',
            to_table, names, values, on_conflict)
        USING archive, to_table;
        GET DIAGNOSTICS brought = ROW_COUNT;
    END IF;
    RETURN brought;
END $$;

-- Bring an archive's rows back; what stands in their place is archived first. Rows that the app
-- hung onto ours by a foreign key must be gone or deferred, as with any deletion.
--
-- Where the archive is of the account that is connected, it is pulled as before, and rows that came
-- since and have no equal in the archive stay as they are. The rebuild in billhook/mirror/archives.py
-- then applies the events that changed the other rows, and recreates claims and the facts of payments.
CREATE OR REPLACE FUNCTION billhook.restore(wanted uuid, account_now text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    found billhook.archives;
    present uuid;
    of_table text;
    brought bigint;
    archived bigint;
    moved bigint := 0;
BEGIN
    UPDATE billhook.archives SET restored_at = now()
    WHERE id = wanted AND restored_at IS NULL RETURNING * INTO found;
    IF found.id IS NULL THEN
        RETURN NULL;
    END IF;
    present := billhook.archive(found.environment, account_now);
    FOR of_table IN SELECT t.relation FROM billhook.account_tables() t LOOP
        brought := billhook.bring_back(wanted, of_table);
        DELETE FROM billhook.archived_rows WHERE archive_id = wanted AND relation = of_table;
        GET DIAGNOSTICS archived = ROW_COUNT;
        IF brought <> archived THEN
            RAISE '% of % archived rows of % could not be restored', archived - brought, archived, of_table
                USING HINT = 'A trigger on that table drops what is written.';
        END IF;
        moved := moved + brought;
    END LOOP;
    SELECT pg_catalog.count(*) INTO archived FROM billhook.archived_rows WHERE archive_id = wanted;
    IF archived > 0 THEN
        RAISE '% archived rows are of tables that this version of Billhook does not know', archived
            USING HINT = 'Restore the archive with the version of Billhook that made it, or a newer one.';
    END IF;

    IF found.account_id = account_now THEN
        PERFORM billhook.begin_pulling(found.environment, account_now, NULL);
        FOREACH of_table IN ARRAY ARRAY[
            :mirrored_tables,
            'payments.stripe_checkout_sessions', 'payments.stripe_customer_portal_sessions',
            'payments.transactions', 'billhook.payment_refs', 'billhook.refreshes',
            'billhook.event_retries']
        LOOP
            PERFORM billhook.bring_back(present, of_table, 'ON CONFLICT DO NOTHING');
        END LOOP;
        PERFORM billhook.bring_back(present, 'billhook.fetched_payments',
            'ON CONFLICT (environment, event_type, object_id) DO UPDATE SET
                told_at = EXCLUDED.told_at, object = EXCLUDED.object');
    END IF;
    RETURN moved;
END $$;
