-- Which customer pays for which subject: claims in, mappings and subjects out (docs/ordering.md).

-- Events of one thing take turns, until the end of the transaction: claims of one customer or one
-- subject, and new rows that ask for whom their customer pays; otherwise neither would see the
-- other. Keys in order, so that nobody waits in a circle.
CREATE OR REPLACE FUNCTION billhook.take_turns(VARIADIC keys text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    key text;
BEGIN
    FOR key IN SELECT DISTINCT k FROM pg_catalog.unnest(keys) AS k WHERE k IS NOT NULL ORDER BY k LOOP
        PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(key, 0));
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION billhook.customer_key(env text, customer text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT 'billhook.customer:' || env || ':' || customer $$;

CREATE OR REPLACE FUNCTION billhook.subject_key(env text, subject_type text, subject_id text) RETURNS text
LANGUAGE sql IMMUTABLE AS
    $$ SELECT 'billhook.subject:' || env || ':' || subject_type || ':' || subject_id $$;

-- A claim holds while nobody made a newer one for its customer or its subject, so the newest
-- checkout wins both ways. Metadata fills what no checkout holds, the oldest first. A deleted
-- customer holds nothing. So a customer holds one claim at most, and these functions look at the
-- one that could be it: a customer who pays for hundreds of subjects costs no more than others.
CREATE OR REPLACE FUNCTION billhook.held_by_checkout(env text, customer text)
RETURNS TABLE (subject_type text, subject_id text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT c.subject_type, c.subject_id
    FROM (
        SELECT * FROM billhook.customer_claims mine
        WHERE mine.environment = env AND mine.customer_id = customer AND mine.kind = 'checkout'
        ORDER BY mine.claimed_at DESC, mine.ref DESC LIMIT 1) AS c
    WHERE NOT EXISTS (
          SELECT FROM billhook.customer_claims newer
          WHERE newer.environment = env
            AND newer.subject_type = c.subject_type AND newer.subject_id = c.subject_id
            AND newer.kind = 'checkout' AND (newer.claimed_at, newer.ref) > (c.claimed_at, c.ref))
      AND NOT EXISTS (
          SELECT FROM payments.customers gone
          WHERE gone.provider = 'stripe' AND gone.environment = env
            AND gone.provider_customer_id = customer AND gone.deleted)
$$;

-- Whether a subject's newest checkout holds.
CREATE OR REPLACE FUNCTION billhook.is_held_by_checkout(env text, of_type text, of_id text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM (
            SELECT c.customer_id FROM billhook.customer_claims c
            WHERE c.environment = env AND c.subject_type = of_type AND c.subject_id = of_id
              AND c.kind = 'checkout'
            ORDER BY c.claimed_at DESC, c.ref DESC LIMIT 1) AS newest,
            billhook.held_by_checkout(env, newest.customer_id) held
        WHERE (held.subject_type, held.subject_id) = (of_type, of_id))
$$;

-- Whether a customer's metadata counts: no checkout says anything of them.
CREATE OR REPLACE FUNCTION billhook.metadata_counts(env text, customer text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (SELECT FROM billhook.held_by_checkout(env, customer))
       AND NOT EXISTS (
           SELECT FROM payments.customers gone
           WHERE gone.provider = 'stripe' AND gone.environment = env
             AND gone.provider_customer_id = customer AND gone.deleted)
$$;

CREATE OR REPLACE FUNCTION billhook.held_by_metadata(env text, customer text)
RETURNS TABLE (subject_type text, subject_id text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT c.subject_type, c.subject_id
    FROM (
        SELECT * FROM billhook.customer_claims mine
        WHERE mine.environment = env AND mine.customer_id = customer AND mine.kind = 'metadata'
          AND NOT billhook.is_held_by_checkout(env, mine.subject_type, mine.subject_id)
        ORDER BY mine.claimed_at, mine.subject_type, mine.subject_id LIMIT 1) AS c
    WHERE billhook.metadata_counts(env, customer)
      AND NOT EXISTS (
          SELECT FROM billhook.customer_claims older
          WHERE older.environment = env
            AND older.subject_type = c.subject_type AND older.subject_id = c.subject_id
            AND older.kind = 'metadata'
            AND (older.claimed_at, older.customer_id) < (c.claimed_at, c.customer_id)
            AND billhook.metadata_counts(env, older.customer_id))
$$;

-- Whom a customer pays for. At most one row.
CREATE OR REPLACE FUNCTION billhook.held_claim(env text, customer text)
RETURNS TABLE (subject_type text, subject_id text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT * FROM billhook.held_by_checkout(env, customer)
    UNION ALL
    SELECT * FROM billhook.held_by_metadata(env, customer)
$$;

-- Bring `customer_mappings` in line with the claims around one customer and one subject.
CREATE OR REPLACE FUNCTION billhook.resolve_mappings(
    env text, customer text, new_subject_type text, new_subject_id text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    touched text[];
BEGIN
    SELECT pg_catalog.array_agg(DISTINCT id) INTO touched FROM (
        SELECT customer AS id
        UNION ALL
        SELECT other.customer_id
        FROM billhook.customer_claims mine
        JOIN billhook.customer_claims other USING (environment, subject_type, subject_id)
        WHERE mine.environment = env AND mine.customer_id = customer
        UNION ALL
        SELECT m.provider_customer_id
        FROM payments.customer_mappings m
        WHERE m.provider = 'stripe' AND m.environment = env
          AND m.subject_type = new_subject_type AND m.subject_id = new_subject_id
    ) AS ids;

    DELETE FROM payments.customer_mappings m
    WHERE m.provider = 'stripe' AND m.environment = env
      AND m.provider_customer_id = ANY (touched)
      AND NOT EXISTS (
          SELECT FROM billhook.held_claim(env, m.provider_customer_id) h
          WHERE (h.subject_type, h.subject_id) = (m.subject_type, m.subject_id));

    INSERT INTO payments.customer_mappings (
        provider, environment, subject_type, subject_id, provider_customer_id)
    SELECT 'stripe', env, h.subject_type, h.subject_id, t.customer_id
    FROM pg_catalog.unnest(touched) AS t (customer_id), billhook.held_claim(env, t.customer_id) h
    ORDER BY h.subject_type, h.subject_id
    ON CONFLICT DO NOTHING;
END $$;

-- For whom a customer paid at a time: the newest checkout until then, else what metadata had said
-- first until then, else whatever was said first afterwards. At most one row.
CREATE OR REPLACE FUNCTION billhook.subject_as_of(env text, customer text, at timestamptz)
RETURNS TABLE (subject_type text, subject_id text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT found.subject_type, found.subject_id FROM (
        (SELECT 1 AS choice, c.* FROM billhook.customer_claims c
         WHERE c.environment = env AND c.customer_id = customer AND c.kind = 'checkout'
           AND c.claimed_at <= at
         ORDER BY c.claimed_at DESC, c.ref DESC LIMIT 1)
        UNION ALL
        (SELECT 2, c.* FROM billhook.customer_claims c
         WHERE c.environment = env AND c.customer_id = customer AND c.kind = 'metadata'
           AND c.claimed_at <= at
         ORDER BY c.claimed_at, c.subject_type, c.subject_id LIMIT 1)
        UNION ALL
        (SELECT 3, c.* FROM billhook.customer_claims c
         WHERE c.environment = env AND c.customer_id = customer AND c.claimed_at > at
         ORDER BY c.claimed_at, c.kind, c.ref, c.subject_type, c.subject_id LIMIT 1)
    ) AS found
    ORDER BY choice LIMIT 1
$$;

-- Rows of a customer that brought no subject of their own get the one that holds at their time.
CREATE OR REPLACE FUNCTION billhook.resolve_subjects(env text, customer text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    payment bigint;
    done bigint[] := '{}';
BEGIN
    UPDATE payments.stripe_subscriptions s
    SET (subject_type, subject_id) = (
        SELECT r.subject_type, r.subject_id
        FROM billhook.subject_as_of(env, customer, s.provider_event_at) r)
    WHERE s.environment = env AND s.customer_id = customer
      AND (coalesce(s.metadata ->> 'insforge_subject_type'::text, '') = ''
           OR coalesce(s.metadata ->> 'insforge_subject_id'::text, '') = '')
      AND ROW(s.subject_type, s.subject_id) IS DISTINCT FROM (
        SELECT ROW(r.subject_type, r.subject_id)
        FROM billhook.subject_as_of(env, customer, s.provider_event_at) r);

    -- While we wait for a payment's lock it may merge into another: look again until none is new.
    -- MATERIALIZED and OFFSET: one lookup for the customer and one for each of its payments, even
    -- where PostgreSQL, which guesses, would rather walk through all payments or join all sources.
    LOOP
        WITH mine AS MATERIALIZED (
            SELECT t.payment_id FROM payments.transactions t
            WHERE t.provider = 'stripe' AND t.environment = env
              AND t.provider_customer_id = customer AND t.payment_id <> ALL (done))
        SELECT mine.payment_id INTO payment FROM mine
        WHERE NOT EXISTS (
            SELECT FROM billhook.payment_sources s
            WHERE s.payment_id = mine.payment_id AND s.subject_type IS NOT NULL OFFSET 0)
        ORDER BY 1 LIMIT 1;
        EXIT WHEN NOT FOUND;
        PERFORM billhook.lock_payment(payment);
        PERFORM billhook.project_payment(payment);
        done := pg_catalog.array_append(done, payment);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION billhook.record_claim(env text, claim jsonb, event_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    new billhook.customer_claims;
BEGIN
    -- A subject whose type and id together are too long for an index entry, which no checkout can
    -- make, is not remembered for its customer. The rows whose metadata names it show it in full.
    IF pg_catalog.octet_length(claim ->> 'customer_id'::text) + pg_catalog.octet_length(claim ->> 'subject_type'::text)
        + pg_catalog.octet_length(claim ->> 'subject_id'::text) + pg_catalog.octet_length(claim ->> 'ref'::text) > 2500
    THEN
        RETURN;
    END IF;

    INSERT INTO billhook.customer_claims AS c (
        environment, customer_id, subject_type, subject_id, kind, ref, claimed_at, outside_ledger)
    VALUES (env, claim ->> 'customer_id'::text, claim ->> 'subject_type'::text, claim ->> 'subject_id'::text,
        claim ->> 'kind'::text, claim ->> 'ref'::text, event_at,
        claim ? 'outside_ledger'::text)
    ON CONFLICT (environment, customer_id, kind, subject_type, subject_id, ref) DO UPDATE
        SET claimed_at = EXCLUDED.claimed_at, outside_ledger = EXCLUDED.outside_ledger
        WHERE CASE WHEN c.kind = 'checkout' THEN c.claimed_at < EXCLUDED.claimed_at
                          ELSE c.claimed_at > EXCLUDED.claimed_at END
    RETURNING c.* INTO new;
    IF NOT FOUND THEN
        RETURN;  -- nothing that we did not know
    END IF;
    PERFORM billhook.take_turns(
        billhook.customer_key(env, new.customer_id),
        billhook.subject_key(env, new.subject_type, new.subject_id));

    IF NOT EXISTS (
        SELECT FROM payments.customer_mappings m
        WHERE m.provider = 'stripe' AND m.environment = env
          AND m.subject_type = new.subject_type AND m.subject_id = new.subject_id
          AND m.provider_customer_id = new.customer_id)
    THEN
        PERFORM billhook.resolve_mappings(env, new.customer_id, new.subject_type, new.subject_id);
    END IF;

    -- A customer who bought for the same subject before changes nobody's subject.
    IF NOT EXISTS (
        SELECT FROM (
            SELECT earlier.subject_type, earlier.subject_id FROM billhook.customer_claims earlier
            WHERE earlier.environment = env AND earlier.customer_id = new.customer_id
              AND earlier.kind = 'checkout'
              AND (earlier.claimed_at, earlier.ref) < (new.claimed_at, new.ref)
            ORDER BY earlier.claimed_at DESC, earlier.ref DESC LIMIT 1) AS before
        WHERE new.kind = 'checkout'
          AND (before.subject_type, before.subject_id) = (new.subject_type, new.subject_id))
    THEN
        PERFORM billhook.resolve_subjects(env, new.customer_id);
    END IF;
END $$;
