-- payments.transactions: one row per payment, one per refund, each a pure function of what is
-- known of the payment's objects (billhook.payment_sources and payment_refunds). Hence the order
-- in which events arrive cannot matter, and the whole table can be computed again at any time.

-- Events of one payment take turns. The lock ends with the transaction.
CREATE OR REPLACE FUNCTION billhook.lock_payment(payment bigint) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('billhook.payment', payment))
$$;

-- The payment that these objects belong to, locked; made when none is known, and merged into one
-- when they were thought to be several.
CREATE OR REPLACE FUNCTION billhook.join_payment(env text, types text[], ids text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    known bigint[];
    locked bigint[];
    count_known integer;
    count_new integer;
    payment bigint;
BEGIN
    LOOP
        SELECT coalesce(array_agg(DISTINCT r.payment_id ORDER BY r.payment_id), '{}'), count(*)
        INTO known, count_known
        FROM unnest(types, ids) AS wanted(object_type, object_id)
        JOIN billhook.payment_refs r
          ON r.environment = env AND r.object_type = wanted.object_type
         AND r.object_id = wanted.object_id;

        IF count_known < cardinality(ids) THEN
            payment := coalesce(known[1], nextval('billhook.payment_ids'));
            -- Sorted, so that two events of one payment never wait for each other in a circle;
            -- an insert waits here until the other event's transaction has ended.
            INSERT INTO billhook.payment_refs (environment, object_type, object_id, payment_id)
            SELECT env, object_type, object_id, payment
            FROM unnest(types, ids) AS wanted(object_type, object_id)
            ORDER BY object_type, object_id
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS count_new = ROW_COUNT;
            IF count_new = cardinality(ids) THEN
                RETURN payment;  -- new in every part: nobody else can know it yet
            END IF;
            CONTINUE;
        END IF;

        EXIT WHEN known = locked;
        PERFORM billhook.lock_payment(id) FROM unnest(known) AS id;
        locked := known;  -- and look again: it may have been merged while we waited
    END LOOP;

    IF cardinality(known) > 1 THEN
        PERFORM billhook.merge_payments(known[1], known[2:]);
    END IF;
    RETURN known[1];
END $$;

-- Several payments turned out to be one: the oldest stays, and keeps its row.
CREATE OR REPLACE FUNCTION billhook.merge_payments(keep bigint, others bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    shown jsonb;
    stays uuid;
BEGIN
    -- `raw` is always the object of the source that counts most.
    SELECT t.raw INTO shown
    FROM billhook.ranked_sources(VARIADIC others || keep) WITH ORDINALITY s
    JOIN payments.transactions t ON t.payment_id = s.payment_id AND t.type <> 'refund'
    ORDER BY s.ordinality LIMIT 1;

    UPDATE billhook.payment_refs SET payment_id = keep WHERE payment_id = ANY (others);
    UPDATE billhook.payment_sources SET payment_id = keep WHERE payment_id = ANY (others);
    UPDATE billhook.payment_refunds SET payment_id = keep WHERE payment_id = ANY (others);
    UPDATE payments.transactions SET payment_id = keep
    WHERE payment_id = ANY (others) AND type = 'refund';

    SELECT id INTO stays FROM payments.transactions
    WHERE payment_id = ANY (others || keep) AND type <> 'refund'
    ORDER BY payment_id LIMIT 1;
    DELETE FROM payments.transactions
    WHERE payment_id = ANY (others || keep) AND type <> 'refund' AND id <> stays;
    UPDATE payments.transactions SET payment_id = keep, raw = shown WHERE id = stays;
END $$;

-- The sources of a payment (or of several that become one) in the order in which their facts count: a success first; between a
-- failure and what is under way, whichever Stripe said last (a declined card, then a bank debit);
-- of those that agree the PaymentIntent, then the Invoice, then the Checkout Session.
CREATE OR REPLACE FUNCTION billhook.ranked_sources(VARIADIC payments bigint[])
RETURNS SETOF billhook.payment_sources
LANGUAGE sql STABLE AS $$
    SELECT s.* FROM billhook.payment_sources s
    WHERE s.payment_id = ANY (payments)
    ORDER BY s.outcome = 'succeeded' DESC,
        max(s.version_at) OVER (PARTITION BY s.outcome) DESC,
        s.outcome, s.object_type, s.object_id
$$;

-- The payment's row as its sources tell it: for each fact the first source in order that knows it.
-- Null status: no source yet (a refund that came before its payment).
CREATE OR REPLACE FUNCTION billhook.payment_of(payment bigint) RETURNS payments.transactions
LANGUAGE plpgsql STABLE AS $$
DECLARE
    s billhook.payment_sources;
    t payments.transactions;
    last_seen timestamptz;
    back record;
BEGIN
    FOR s IN SELECT * FROM billhook.ranked_sources(payment) LOOP
        IF t.status IS NULL THEN
            t.status := s.outcome;
            t.type := s.type;
        ELSIF s.type = 'subscription_invoice' THEN
            t.type := s.type;
        END IF;
        IF t.subject_type IS NULL THEN
            t.subject_type := s.subject_type;
            t.subject_id := s.subject_id;
        END IF;
        IF s.outcome = 'succeeded' THEN
            t.paid_at := coalesce(t.paid_at, s.happened_at);
        ELSIF s.outcome = 'failed' THEN
            t.failed_at := coalesce(t.failed_at, s.happened_at);
        END IF;
        t.environment := s.environment;
        t.provider_customer_id := coalesce(t.provider_customer_id, s.customer_id);
        t.customer_email_snapshot := coalesce(t.customer_email_snapshot, s.email);
        t.amount := coalesce(t.amount, s.amount);
        t.currency := coalesce(t.currency, s.currency);
        t.description := coalesce(t.description, s.description);
        t.provider_created_at := coalesce(t.provider_created_at, s.provider_created_at);
        t.related_object_ids := s.related || coalesce(t.related_object_ids, '{}');
        last_seen := greatest(last_seen, s.version_at);
    END LOOP;
    IF t.status IS NULL THEN
        RETURN t;
    END IF;

    SELECT jsonb_object_agg(r.object_type, r.object_id ORDER BY r.object_id DESC)
           || t.related_object_ids
    INTO t.related_object_ids
    FROM billhook.payment_refs r WHERE r.payment_id = payment;
    t.provider_object_type := CASE
        WHEN t.related_object_ids ? 'payment_intent' THEN 'payment_intent'
        WHEN t.related_object_ids ? 'checkout_session' THEN 'checkout_session'
        ELSE 'invoice' END;
    t.provider_object_id := t.related_object_ids ->> t.provider_object_type;

    IF t.subject_type IS NULL AND t.provider_customer_id IS NOT NULL THEN
        SELECT r.subject_type, r.subject_id INTO t.subject_type, t.subject_id
        FROM billhook.subject_as_of(t.environment, t.provider_customer_id, last_seen) r;
    END IF;

    -- Only refunds that succeeded count. What a charge says beyond the refunds that we know of is
    -- money that went back as well; a refund that we know to have failed is not counted again.
    SELECT
        coalesce(sum(amount) FILTER (WHERE object_type = 'refund' AND status = 'refunded'), 0)
        + greatest(
            coalesce(sum(amount) FILTER (WHERE object_type = 'charge'), 0)
            - coalesce(sum(amount) FILTER (WHERE object_type = 'refund'), 0), 0) AS amount,
        coalesce(
            max(provider_created_at) FILTER (WHERE object_type = 'refund' AND status = 'refunded'),
            max(provider_created_at) FILTER (WHERE object_type = 'charge')) AS at
    INTO back
    FROM billhook.payment_refunds WHERE payment_id = payment;
    t.amount_refunded := back.amount;
    IF back.amount > 0 THEN
        t.status := CASE WHEN back.amount >= t.amount THEN 'refunded' ELSE 'partially_refunded' END;
        t.refunded_at := back.at;
    END IF;
    RETURN t;
END $$;

-- Show the payment and its refunds in payments.transactions. `source` names the source that the
-- event at hand changed, and `object` is that Stripe object.
CREATE OR REPLACE FUNCTION billhook.project_payment(
    payment bigint,
    changed_object text DEFAULT NULL, changed_outcome text DEFAULT NULL, object jsonb DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t payments.transactions := billhook.payment_of(payment);
    old payments.transactions;
    top record;
BEGIN
    IF t.status IS NOT NULL THEN
        SELECT s.object_id, s.outcome INTO top FROM billhook.ranked_sources(payment) s LIMIT 1;
        SELECT * INTO old FROM payments.transactions
        WHERE payment_id = payment AND type <> 'refund';

        t.id := coalesce(old.id, gen_random_uuid());
        t.provider := 'stripe';
        t.payment_id := payment;
        t.raw := CASE WHEN top.object_id = changed_object AND top.outcome::text = changed_outcome
            THEN object ELSE coalesce(old.raw, '{}') END;
        t.created_at := coalesce(old.created_at, now());
        t.updated_at := coalesce(old.updated_at, now());
        IF old.id IS NULL THEN
            PERFORM billhook.insert_payment(t);
        ELSIF old IS DISTINCT FROM t THEN
            UPDATE payments.transactions SET
                type = t.type, status = t.status,
                subject_type = t.subject_type, subject_id = t.subject_id,
                provider_customer_id = t.provider_customer_id,
                customer_email_snapshot = t.customer_email_snapshot,
                provider_object_type = t.provider_object_type,
                provider_object_id = t.provider_object_id,
                related_object_ids = t.related_object_ids,
                amount = t.amount, amount_refunded = t.amount_refunded, currency = t.currency,
                description = t.description, paid_at = t.paid_at, failed_at = t.failed_at,
                refunded_at = t.refunded_at, provider_created_at = t.provider_created_at,
                raw = t.raw
            WHERE id = old.id;
        END IF;
    END IF;
    PERFORM billhook.project_refunds(payment, t, changed_object, object);
END $$;

-- A payment's first row. A row of the same object that is not linked to any payment came with a
-- database that InsForge made: it is taken over.
CREATE OR REPLACE FUNCTION billhook.insert_payment(t payments.transactions) RETURNS void LANGUAGE sql AS $$
    INSERT INTO payments.transactions AS old (
        id, provider, environment, type, status, subject_type, subject_id, provider_customer_id,
        customer_email_snapshot, provider_object_type, provider_object_id, related_object_ids,
        amount, amount_refunded, currency, description, paid_at, failed_at, refunded_at,
        provider_created_at, raw, payment_id)
    VALUES (
        t.id, t.provider, t.environment, t.type, t.status, t.subject_type, t.subject_id,
        t.provider_customer_id, t.customer_email_snapshot, t.provider_object_type,
        t.provider_object_id, t.related_object_ids, t.amount, t.amount_refunded, t.currency,
        t.description, t.paid_at, t.failed_at, t.refunded_at, t.provider_created_at, t.raw,
        t.payment_id)
    ON CONFLICT (provider, environment, provider_object_type, provider_object_id)
        WHERE provider_object_type IS NOT NULL AND provider_object_id IS NOT NULL
    DO UPDATE SET
        type = EXCLUDED.type, status = EXCLUDED.status,
        subject_type = coalesce(EXCLUDED.subject_type, old.subject_type),
        subject_id = coalesce(EXCLUDED.subject_id, old.subject_id),
        provider_customer_id = coalesce(EXCLUDED.provider_customer_id, old.provider_customer_id),
        customer_email_snapshot =
            coalesce(EXCLUDED.customer_email_snapshot, old.customer_email_snapshot),
        related_object_ids = old.related_object_ids || EXCLUDED.related_object_ids,
        amount = EXCLUDED.amount, amount_refunded = EXCLUDED.amount_refunded,
        currency = EXCLUDED.currency,
        description = coalesce(EXCLUDED.description, old.description),
        paid_at = coalesce(EXCLUDED.paid_at, old.paid_at),
        failed_at = coalesce(EXCLUDED.failed_at, old.failed_at),
        refunded_at = EXCLUDED.refunded_at,
        provider_created_at = coalesce(EXCLUDED.provider_created_at, old.provider_created_at),
        raw = EXCLUDED.raw, payment_id = EXCLUDED.payment_id
$$;

-- The rows of a payment's refunds: what they know themselves, the rest from their payment.
CREATE OR REPLACE FUNCTION billhook.project_refunds(
    payment bigint, t payments.transactions, changed_object text, object jsonb
) RETURNS void LANGUAGE sql AS $$
    WITH refs AS (
        SELECT coalesce(jsonb_object_agg(object_type, object_id ORDER BY object_id DESC), '{}') AS ids
        FROM billhook.payment_refs WHERE payment_id = payment
    ), refunds AS (
        SELECT r.*,
            refs.ids || coalesce(t.related_object_ids, '{}')
                || CASE WHEN r.charge_id IS NULL THEN '{}'
                        ELSE jsonb_build_object('charge', r.charge_id) END
                || jsonb_build_object('refund', r.object_id) AS related
        FROM billhook.payment_refunds r, refs
        WHERE r.payment_id = payment AND r.object_type = 'refund'
        ORDER BY r.object_id
    )
    INSERT INTO payments.transactions AS old (
        provider, environment, type, status, subject_type, subject_id, provider_customer_id,
        customer_email_snapshot, provider_object_type, provider_object_id,
        provider_parent_object_type, provider_parent_object_id, related_object_ids, amount,
        amount_refunded, currency, description, failed_at, refunded_at, provider_created_at,
        raw, payment_id)
    SELECT 'stripe', r.environment, 'refund', r.status, t.subject_type, t.subject_id,
        t.provider_customer_id, t.customer_email_snapshot, 'refund', r.object_id,
        CASE WHEN r.related ? 'payment_intent' THEN 'payment_intent'
             WHEN r.related ? 'charge' THEN 'charge' END,
        coalesce(r.related ->> 'payment_intent', r.related ->> 'charge'),
        r.related, r.amount, r.amount, r.currency, coalesce(r.description, t.description),
        CASE WHEN r.status = 'failed' THEN r.provider_created_at END,
        CASE WHEN r.status = 'refunded' THEN r.provider_created_at END,
        r.provider_created_at,
        CASE WHEN r.object_id = changed_object THEN object ELSE '{}' END,
        payment
    FROM refunds r
    ON CONFLICT (provider, environment, provider_object_type, provider_object_id)
        WHERE provider_object_type IS NOT NULL AND provider_object_id IS NOT NULL
    DO UPDATE SET
        status = EXCLUDED.status,
        subject_type = EXCLUDED.subject_type, subject_id = EXCLUDED.subject_id,
        provider_customer_id = EXCLUDED.provider_customer_id,
        customer_email_snapshot = EXCLUDED.customer_email_snapshot,
        provider_parent_object_type = EXCLUDED.provider_parent_object_type,
        provider_parent_object_id = EXCLUDED.provider_parent_object_id,
        related_object_ids = EXCLUDED.related_object_ids,
        amount = EXCLUDED.amount, amount_refunded = EXCLUDED.amount_refunded,
        currency = EXCLUDED.currency, description = EXCLUDED.description,
        failed_at = EXCLUDED.failed_at, refunded_at = EXCLUDED.refunded_at,
        provider_created_at = EXCLUDED.provider_created_at,
        raw = CASE WHEN EXCLUDED.provider_object_id = changed_object
            THEN EXCLUDED.raw ELSE old.raw END,
        payment_id = EXCLUDED.payment_id
    WHERE ROW(old.status, old.subject_type, old.subject_id, old.provider_customer_id,
            old.customer_email_snapshot, old.provider_parent_object_id, old.related_object_ids,
            old.amount, old.description, old.payment_id)
        IS DISTINCT FROM ROW(EXCLUDED.status, EXCLUDED.subject_type, EXCLUDED.subject_id,
            EXCLUDED.provider_customer_id, EXCLUDED.customer_email_snapshot,
            EXCLUDED.provider_parent_object_id, EXCLUDED.related_object_ids,
            EXCLUDED.amount, EXCLUDED.description, EXCLUDED.payment_id)
       OR EXCLUDED.provider_object_id = changed_object
$$;

-- Record one event's facts about one payment. `x` is {refs: {type: id}, source?: {…}, refund?: {…}}.
-- An event that is applied again (a replay, a repair) writes its object again, so that a row removed
-- by hand comes back whole.
CREATE OR REPLACE FUNCTION billhook.record_payment(
    env text, x jsonb, event_at timestamptz, event_id text, object jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    payment bigint;
    changed boolean := false;
    s jsonb := x -> 'source';
    r jsonb := x -> 'refund';
BEGIN
    SELECT billhook.join_payment(env, array_agg(key), array_agg(value)) INTO payment
    FROM jsonb_each_text(x -> 'refs');

    IF s IS NOT NULL THEN
        INSERT INTO billhook.payment_sources AS known (
            environment, object_type, object_id, outcome, payment_id, version_at,
            version_event_id, type, subject_type, subject_id, customer_id, email, amount,
            currency, description, happened_at, provider_created_at, related)
        VALUES (
            env, (s ->> 'object_type')::billhook.payment_object, s ->> 'object_id',
            (s ->> 'outcome')::billhook.payment_outcome, payment, event_at, event_id,
            s ->> 'type', s ->> 'subject_type', s ->> 'subject_id', s ->> 'customer_id',
            s ->> 'email', (s ->> 'amount')::bigint, s ->> 'currency', s ->> 'description',
            to_timestamp((s ->> 'happened_at')::bigint), to_timestamp((s ->> 'created')::bigint),
            s -> 'related')
        ON CONFLICT (environment, object_type, object_id, outcome) DO UPDATE SET
            version_at = EXCLUDED.version_at, version_event_id = EXCLUDED.version_event_id,
            type = EXCLUDED.type,
            subject_type = EXCLUDED.subject_type, subject_id = EXCLUDED.subject_id,
            customer_id = EXCLUDED.customer_id, email = EXCLUDED.email,
            amount = EXCLUDED.amount, currency = EXCLUDED.currency,
            description = EXCLUDED.description, happened_at = EXCLUDED.happened_at,
            provider_created_at = EXCLUDED.provider_created_at, related = EXCLUDED.related
        WHERE (known.version_at, known.version_event_id)
            <= (EXCLUDED.version_at, EXCLUDED.version_event_id);
        changed := FOUND;
    END IF;

    IF r IS NOT NULL THEN
        INSERT INTO billhook.payment_refunds AS known (
            environment, object_type, object_id, payment_id, version_at, version_rank,
            version_event_id, status, amount, currency, description, charge_id,
            provider_created_at)
        VALUES (
            env, (r ->> 'object_type')::billhook.refund_object, r ->> 'object_id', payment,
            event_at, (r ->> 'rank')::smallint, event_id, r ->> 'status',
            (r ->> 'amount')::bigint, r ->> 'currency', r ->> 'description', r ->> 'charge_id',
            to_timestamp((r ->> 'created')::bigint))
        ON CONFLICT (environment, object_type, object_id) DO UPDATE SET
            version_at = EXCLUDED.version_at, version_rank = EXCLUDED.version_rank,
            version_event_id = EXCLUDED.version_event_id, status = EXCLUDED.status,
            amount = EXCLUDED.amount, currency = EXCLUDED.currency,
            description = EXCLUDED.description, charge_id = EXCLUDED.charge_id,
            provider_created_at = EXCLUDED.provider_created_at
        WHERE (known.version_at, known.version_rank, known.amount, known.version_event_id)
            <= (EXCLUDED.version_at, EXCLUDED.version_rank, EXCLUDED.amount, EXCLUDED.version_event_id);
        changed := FOUND;
    END IF;

    PERFORM billhook.project_payment(
        payment,
        CASE WHEN changed THEN coalesce(s ->> 'object_id', r ->> 'object_id') END,
        s ->> 'outcome', object);

    -- What is missing usually comes with the next event: the recovery worker looks in a minute.
    IF r IS NOT NULL
       AND NOT EXISTS (SELECT FROM billhook.payment_sources WHERE payment_id = payment)
    THEN
        PERFORM billhook.doubt(env, r ->> 'object_type', r ->> 'object_id', 'its payment is unknown');
    ELSIF s ->> 'object_type' = 'invoice' AND s ->> 'outcome' = 'succeeded'
       AND (s ->> 'amount')::bigint > 0
       AND NOT EXISTS (SELECT FROM billhook.payment_refs
                       WHERE payment_id = payment AND object_type = 'payment_intent')
    THEN
        PERFORM billhook.doubt(env, 'invoice', s ->> 'object_id', 'its PaymentIntent is unknown');
    END IF;
END $$;

-- Mark an object to be asked of Stripe, should it still be in doubt in a minute.
CREATE OR REPLACE FUNCTION billhook.doubt(env text, object_type text, object_id text, reason text)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO billhook.refreshes (environment, object_type, object_id, reason, next_at)
    VALUES (env, object_type, object_id, reason, now() + interval '1 minute')
    ON CONFLICT DO NOTHING
$$;
