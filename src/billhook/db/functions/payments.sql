-- payments.transactions: one row per payment, one per refund, each a pure function of what is
-- known of the payment's objects (billhook.payment_sources and payment_refunds). Hence the order
-- in which events arrive cannot matter, and the whole table can be computed again at any time.

-- Events of one payment take turns. The lock ends with the transaction.
CREATE OR REPLACE FUNCTION billhook.lock_payment(payment bigint) RETURNS void LANGUAGE sql AS $$
    SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('billhook.payment', payment))
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
        SELECT coalesce(pg_catalog.array_agg(DISTINCT r.payment_id ORDER BY r.payment_id), '{}'), count(*)
        INTO known, count_known
        FROM unnest(types, ids) AS wanted(object_type, object_id)
        JOIN billhook.payment_refs r
          ON r.environment = env AND r.object_type = wanted.object_type
         AND r.object_id = wanted.object_id;

        IF count_known < pg_catalog.cardinality(ids) THEN
            payment := coalesce(known[1], pg_catalog.nextval('billhook.payment_ids'));
            -- Sorted, so that two events of one payment never wait for each other in a circle;
            -- an insert waits here until the other event's transaction has ended.
            INSERT INTO billhook.payment_refs (environment, object_type, object_id, payment_id)
            SELECT env, object_type, object_id, payment
            FROM unnest(types, ids) AS wanted(object_type, object_id)
            ORDER BY object_type, object_id
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS count_new = ROW_COUNT;
            IF count_new = pg_catalog.cardinality(ids) THEN
                RETURN payment;  -- new in every part: nobody else can know it yet
            END IF;
            CONTINUE;
        END IF;

        EXIT WHEN known OPERATOR(pg_catalog.=) locked;
        PERFORM billhook.lock_payment(id) FROM pg_catalog.unnest(known) AS id;
        locked := known;  -- and look again: it may have been merged while we waited
    END LOOP;

    IF pg_catalog.cardinality(known) > 1 THEN
        PERFORM billhook.merge_payments(known[1], known[2:]);
    END IF;
    RETURN known[1];
END $$;

-- Several payments turned out to be one: the oldest stays, and keeps its row.
CREATE OR REPLACE FUNCTION billhook.merge_payments(keep bigint, others bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    every bigint[] := pg_catalog.array_append(others, keep);
    shown jsonb;
    stays uuid;
BEGIN
    SELECT t.raw INTO shown
    FROM billhook.shown_source(VARIADIC every) s
    JOIN payments.transactions t ON t.payment_id = s.payment_id AND t.type <> 'refund';

    UPDATE billhook.payment_refs SET payment_id = keep WHERE payment_id = ANY (others);
    UPDATE billhook.payment_sources SET payment_id = keep WHERE payment_id = ANY (others);
    UPDATE billhook.payment_refunds SET payment_id = keep WHERE payment_id = ANY (others);
    UPDATE payments.transactions SET payment_id = keep
    WHERE payment_id = ANY (others) AND type = 'refund';

    SELECT id INTO stays FROM payments.transactions
    WHERE payment_id = ANY (every) AND type <> 'refund'
    ORDER BY payment_id LIMIT 1;
    DELETE FROM payments.transactions
    WHERE payment_id = ANY (every) AND type <> 'refund' AND id <> stays;
    UPDATE payments.transactions SET payment_id = keep, raw = coalesce(shown, raw) WHERE id = stays;
END $$;

-- The sources of a payment in the order in which their facts count: a success first; then that it
-- was canceled, which is final; between a failure and what is under way, whichever Stripe said last
-- (a declined card, then a bank debit). Of those that agree, by their place
-- (billhook/projections/changes.py).
CREATE OR REPLACE FUNCTION billhook.ranked_sources(payment bigint)
RETURNS SETOF billhook.payment_sources
LANGUAGE sql STABLE AS $$
    SELECT s.* FROM billhook.payment_sources s
    WHERE s.payment_id = payment
    ORDER BY s.outcome = 'succeeded' DESC, s.outcome = 'canceled' DESC,
        pg_catalog.max(s.version_at) OVER (PARTITION BY s.outcome) DESC,
        s.outcome, s.place, s.object_id
$$;

-- A canceled PaymentIntent that was never tried is no transaction by itself.
CREATE OR REPLACE FUNCTION billhook.was_tried(s billhook.payment_sources) RETURNS boolean
LANGUAGE sql IMMUTABLE AS
    $$ SELECT s.outcome <> 'canceled' OR s.related ? 'charge'::text $$;

-- The source whose object is the `raw` of a payment, or of several that become one: the one that
-- decides its status; where several did, the newest, so that the event that changes this one brings
-- its object along.
CREATE OR REPLACE FUNCTION billhook.shown_source(VARIADIC payments bigint[])
RETURNS SETOF billhook.payment_sources ROWS 1
LANGUAGE sql STABLE AS $$
    SELECT s.* FROM billhook.payment_sources s
    WHERE s.payment_id = ANY (payments) AND billhook.was_tried(s)
    ORDER BY s.outcome = 'succeeded' DESC, s.outcome = 'canceled' DESC,
        CASE WHEN s.outcome IN ('failed', 'pending') THEN s.version_at END DESC,
        s.outcome, s.place, s.object_id
    LIMIT 1
$$;

-- A sum as the columns of amounts hold it: the largest or smallest bigint where it is beyond them.
CREATE OR REPLACE FUNCTION billhook.as_bigint(amount numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(least(amount, 9223372036854775807::numeric), (-9223372036854775807)::numeric)::bigint
$$;

-- An amount of a payment in another currency, by what Stripe says is worth the same: what one object
-- says in its own currency and in the buyer's (adaptive pricing), else what two objects say of the
-- whole payment. Null where Stripe says nothing.
CREATE OR REPLACE FUNCTION billhook.converted(
    payment bigint, amount bigint, from_currency text, to_currency text
) RETURNS bigint LANGUAGE sql STABLE AS $$
    WITH worth AS (
        SELECT s.place, s.object_id, s.currency, coalesce(s.full_amount, s.amount) AS amount
        FROM billhook.payment_sources s WHERE s.payment_id = payment
        UNION ALL
        SELECT s.place, s.object_id, s.presentment_currency, s.presentment_amount
        FROM billhook.payment_sources s WHERE s.payment_id = payment
        UNION ALL
        SELECT 9::smallint, r.object_id, r.currency, r.amount
        FROM billhook.payment_refunds r
        WHERE r.payment_id = payment AND r.presentment_currency IS NOT NULL
        UNION ALL
        SELECT 9::smallint, r.object_id, r.presentment_currency, r.presentment_amount
        FROM billhook.payment_refunds r
        WHERE r.payment_id = payment AND r.presentment_currency IS NOT NULL
    )
    SELECT billhook.as_bigint(pg_catalog.round(
        converted.amount::numeric * theirs.amount::numeric / ours.amount::numeric))
    FROM worth ours, worth theirs
    WHERE ours.currency = from_currency AND ours.amount > 0
      AND theirs.currency = to_currency AND theirs.amount > 0
      AND (ours.place < 9::smallint OR ours.object_id = theirs.object_id)
      AND (theirs.place < 9::smallint OR ours.object_id = theirs.object_id)
    ORDER BY ours.object_id = theirs.object_id DESC, theirs.place, ours.place,
        theirs.object_id, ours.object_id, theirs.amount, ours.amount
    LIMIT 1
$$;

-- The payment's row as its sources tell it: for each fact the first source in order that knows it.
-- Null status: nothing to show (a refund that came before its payment, a payment never tried).
--
-- nothing_taken: it was canceled, so whatever was refunded was never taken.
-- has_refunds: whether there are refunds to show.
CREATE OR REPLACE FUNCTION billhook.payment_of(
    payment bigint, OUT t payments.transactions, OUT nothing_taken boolean, OUT has_refunds boolean
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    sources billhook.payment_sources[];
    s billhook.payment_sources;
    r billhook.payment_refunds;
    currency_rank integer := 9;
    rank integer;
    canceled_at timestamptz;
    last_seen timestamptz;
    is_tried boolean := false;
    has_failed boolean := false;
    intents jsonb;
    worth bigint;
    charge_at timestamptz;
    counted text[] := '{}';      -- PaymentIntents and charges whose own word was counted
    taken bigint;                -- what PaymentIntents and charges took
    invoiced bigint;             -- what invoices say was paid
    sold bigint;                 -- what a Checkout Session says was paid
    recorded bigint := 0;        -- what was paid past Stripe, piece by piece
    is_recorded boolean := false;
    is_flagged boolean := false; -- an invoice says that it was paid so
BEGIN
    SELECT pg_catalog.array_agg(ranked) INTO sources FROM billhook.ranked_sources(payment) ranked;
    nothing_taken := sources[1].outcome = 'canceled';

    -- One payment, one currency: that in which it was sold, else that in which it was charged.
    FOREACH s IN ARRAY coalesce(sources, '{}') LOOP
        rank := CASE s.object_type
            WHEN 'checkout_session' THEN 1 WHEN 'invoice' THEN 2 WHEN 'payment_intent' THEN 3 ELSE 4 END;
        IF s.currency IS NOT NULL AND rank < currency_rank THEN
            t.currency := s.currency;
            currency_rank := rank;
        END IF;
        is_tried := is_tried OR billhook.was_tried(s);
    END LOOP;

    FOREACH s IN ARRAY CASE WHEN is_tried THEN sources ELSE '{}' END LOOP
        worth := CASE WHEN s.currency IS NULL OR s.currency = t.currency THEN s.amount
            ELSE billhook.converted(payment, s.amount, s.currency, t.currency) END;
        IF t.status IS NULL THEN
            t.status := CASE s.outcome WHEN 'canceled' THEN 'failed' ELSE s.outcome END;
            t.type := s.type;
        ELSIF s.type = 'subscription_invoice' THEN
            t.type := s.type;
        END IF;
        IF t.subject_type IS NULL THEN
            t.subject_type := s.subject_type;
            t.subject_id := s.subject_id;
        END IF;
        CASE s.outcome
        WHEN 'succeeded' THEN
            t.paid_at := coalesce(t.paid_at, s.happened_at);
            CASE
            WHEN s.out_of_band AND s.object_type = 'invoice_payment' THEN
                recorded := recorded + coalesce(worth, 0::bigint);
                is_recorded := true;
            WHEN s.object_type = 'invoice' THEN
                invoiced := coalesce(invoiced, 0::bigint) + coalesce(worth, 0::bigint);
                is_flagged := is_flagged OR s.out_of_band;
            WHEN s.object_type = 'checkout_session' THEN
                sold := coalesce(sold, worth);
            WHEN s.object_type = 'invoice_payment' THEN
                IF coalesce(s.related ->> 'payment_intent'::text, s.related ->> 'charge'::text)
                    <> ALL (counted)
                THEN
                    taken := coalesce(taken + worth, taken, worth);
                END IF;
            ELSE
                counted := pg_catalog.array_append(counted, s.object_id);
                taken := coalesce(taken + worth, taken, worth);
            END CASE;
        WHEN 'failed' THEN
            has_failed := true;
            t.failed_at := coalesce(t.failed_at, s.happened_at);
        WHEN 'canceled' THEN
            canceled_at := coalesce(canceled_at, s.happened_at);
        ELSE
        END CASE;
        t.environment := s.environment;
        t.provider_customer_id := coalesce(t.provider_customer_id, s.customer_id);
        t.customer_email_snapshot := coalesce(t.customer_email_snapshot, s.email);
        t.amount := coalesce(t.amount, worth);
        t.description := coalesce(t.description, s.description);
        t.provider_created_at := coalesce(t.provider_created_at, s.provider_created_at);
        t.related_object_ids := s.related || coalesce(t.related_object_ids, '{}');
        IF last_seen IS NULL AND s.customer_id IS NOT NULL THEN
            last_seen := s.version_at;
        END IF;
    END LOOP;

    t.amount_refunded := 0;
    t.amount_out_of_band := 0;
    IF t.status = 'succeeded' THEN
        t.amount_out_of_band := recorded;
        IF is_flagged THEN
            t.amount_out_of_band := greatest(recorded, invoiced - coalesce(taken, 0::bigint));
        END IF;
        t.amount := CASE
            WHEN invoiced IS NOT NULL
                THEN greatest(coalesce(taken, 0::bigint), invoiced - t.amount_out_of_band)
            WHEN taken IS NOT NULL THEN taken
            WHEN is_recorded THEN 0::bigint
            ELSE coalesce(sold, t.amount) END;
    ELSIF nothing_taken AND NOT has_failed THEN
        t.canceled_at := canceled_at;
    END IF;
    IF nothing_taken THEN
        t.failed_at := coalesce(t.failed_at, canceled_at);
    END IF;

    -- Only refunds that succeeded count, and only of what was taken. What a charge says beyond the
    -- refunds that we know of is money that went back as well; a refund that we know to have failed
    -- is not counted again.
    has_refunds := false;
    FOR r IN SELECT * FROM billhook.payment_refunds known WHERE known.payment_id = payment LOOP
        has_refunds := has_refunds OR r.object_type = 'refund';
        CONTINUE WHEN t.status IS DISTINCT FROM 'succeeded';
        IF r.object_type = 'charge' THEN
            SELECT billhook.as_bigint(
                r.amount::numeric - coalesce(pg_catalog.sum(known.amount), 0::numeric)) INTO worth
            FROM billhook.payment_refunds known
            WHERE known.payment_id = payment AND known.object_type = 'refund'
              AND coalesce(known.charge_id, r.object_id) = r.object_id
            HAVING pg_catalog.bool_and(known.currency = r.currency) IS NOT FALSE;
            CONTINUE WHEN worth IS NULL OR worth <= 0;
        ELSE
            CONTINUE WHEN r.status <> 'refunded';
            worth := r.amount;
        END IF;
        worth := CASE
            WHEN r.currency IS NULL OR t.currency IS NULL OR r.currency = t.currency THEN worth
            WHEN r.presentment_currency = t.currency THEN r.presentment_amount
            ELSE billhook.converted(payment, worth, r.currency, t.currency) END;
        t.amount_refunded := billhook.as_bigint(
            t.amount_refunded::numeric + coalesce(worth, 0::bigint)::numeric);
        IF r.object_type = 'refund' THEN
            t.refunded_at := greatest(t.refunded_at, r.provider_created_at);
        ELSE
            charge_at := greatest(charge_at, r.provider_created_at);
        END IF;
    END LOOP;
    IF t.amount_refunded > 0 THEN
        t.refunded_at := coalesce(t.refunded_at, charge_at);
    END IF;

    IF t.status IS NULL THEN
        RETURN;
    END IF;
    IF t.amount_refunded > 0 THEN
        t.status := CASE WHEN t.amount_refunded >= t.amount THEN 'refunded'
                         ELSE 'partially_refunded' END;
    END IF;

    SELECT pg_catalog.jsonb_object_agg(ref.object_type, ref.object_id ORDER BY ref.object_id DESC)
           || t.related_object_ids,
        pg_catalog.jsonb_agg(ref.object_id ORDER BY ref.object_id)
            FILTER (WHERE ref.object_type = 'payment_intent')
    INTO t.related_object_ids, intents
    FROM billhook.payment_refs ref WHERE ref.payment_id = payment;
    IF pg_catalog.jsonb_array_length(intents) > 1 THEN
        t.related_object_ids := t.related_object_ids
            || pg_catalog.jsonb_build_object('payment_intents'::text, intents);
    END IF;
    t.provider_object_type := CASE
        WHEN t.related_object_ids ? 'payment_intent'::text THEN 'payment_intent'
        WHEN t.related_object_ids ? 'checkout_session'::text THEN 'checkout_session'
        WHEN t.related_object_ids ? 'invoice'::text THEN 'invoice'
        ELSE 'charge' END;
    t.provider_object_id := t.related_object_ids ->> t.provider_object_type;

    IF t.subject_type IS NULL AND t.provider_customer_id IS NOT NULL THEN
        SELECT claim.subject_type, claim.subject_id INTO t.subject_type, t.subject_id
        FROM billhook.subject_as_of(t.environment, t.provider_customer_id, last_seen) claim;
    END IF;
END $$;

-- Show the payment and its refunds in payments.transactions. `changed_object` and `changed_outcome`
-- name the source that the event at hand changed, and `object` is that Stripe object.
CREATE OR REPLACE FUNCTION billhook.project_payment(
    payment bigint,
    changed_object text DEFAULT NULL, changed_outcome text DEFAULT NULL, object jsonb DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_now record;
    t payments.transactions;
    old payments.transactions;
BEGIN
    SELECT * INTO found_now FROM billhook.payment_of(payment);
    t := found_now.t;
    IF t.status IS NOT NULL THEN
        SELECT * INTO old FROM payments.transactions
        WHERE payment_id = payment AND type <> 'refund';

        t.id := coalesce(old.id, pg_catalog.gen_random_uuid());
        t.provider := 'stripe';
        t.payment_id := payment;
        t.raw := coalesce(old.raw, '{}');
        IF changed_outcome IS NOT NULL AND EXISTS (
            SELECT FROM billhook.shown_source(VARIADIC ARRAY[payment]) s
            WHERE s.object_id = changed_object AND s.outcome = changed_outcome)
        THEN
            t.raw := object;
        END IF;
        t.created_at := coalesce(old.created_at, pg_catalog.now());
        t.updated_at := coalesce(old.updated_at, pg_catalog.now());
        IF old.id IS NULL THEN
            PERFORM billhook.insert_payment(t);
        ELSIF ROW(old.*) IS DISTINCT FROM ROW(t.*) THEN
            UPDATE payments.transactions SET
                type = t.type, status = t.status,
                subject_type = t.subject_type, subject_id = t.subject_id,
                provider_customer_id = t.provider_customer_id,
                customer_email_snapshot = t.customer_email_snapshot,
                provider_object_type = t.provider_object_type,
                provider_object_id = t.provider_object_id,
                related_object_ids = t.related_object_ids,
                amount = t.amount, amount_refunded = t.amount_refunded,
                amount_out_of_band = t.amount_out_of_band, currency = t.currency,
                description = t.description, paid_at = t.paid_at, failed_at = t.failed_at,
                refunded_at = t.refunded_at, canceled_at = t.canceled_at,
                provider_created_at = t.provider_created_at, raw = t.raw
            WHERE id = old.id;
        END IF;
    END IF;
    IF found_now.has_refunds THEN
        PERFORM billhook.project_refunds(payment, t, found_now.nothing_taken, changed_object, object);
    END IF;
END $$;

-- A payment's first row. A row of the same object that is not linked to any payment came with a
-- database that InsForge made: it is taken over.
CREATE OR REPLACE FUNCTION billhook.insert_payment(t payments.transactions) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO payments.transactions AS old (
        id, provider, environment, type, status, subject_type, subject_id, provider_customer_id,
        customer_email_snapshot, provider_object_type, provider_object_id, related_object_ids,
        amount, amount_refunded, amount_out_of_band, currency, description, paid_at, failed_at,
        refunded_at, canceled_at, provider_created_at, raw, payment_id)
    VALUES (
        t.id, t.provider, t.environment, t.type, t.status, t.subject_type, t.subject_id,
        t.provider_customer_id, t.customer_email_snapshot, t.provider_object_type,
        t.provider_object_id, t.related_object_ids, t.amount, t.amount_refunded,
        t.amount_out_of_band, t.currency, t.description, t.paid_at, t.failed_at, t.refunded_at,
        t.canceled_at, t.provider_created_at, t.raw, t.payment_id)
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
        amount_out_of_band = EXCLUDED.amount_out_of_band, currency = EXCLUDED.currency,
        description = coalesce(EXCLUDED.description, old.description),
        paid_at = coalesce(EXCLUDED.paid_at, old.paid_at),
        failed_at = coalesce(EXCLUDED.failed_at, old.failed_at),
        refunded_at = EXCLUDED.refunded_at, canceled_at = EXCLUDED.canceled_at,
        provider_created_at = coalesce(EXCLUDED.provider_created_at, old.provider_created_at),
        raw = EXCLUDED.raw, payment_id = EXCLUDED.payment_id
$$;

-- The rows of a payment's refunds: what they know themselves, the rest from their payment. The
-- parent is the PaymentIntent that the refund names, else the one whose charge it names, else that
-- of its payment. A refund of what was never taken gave nothing back: it is `failed`.
CREATE OR REPLACE FUNCTION billhook.project_refunds(
    payment bigint, t payments.transactions, nothing_taken boolean, changed_object text, object jsonb
) RETURNS void LANGUAGE sql AS $$
    WITH refs AS (
        SELECT coalesce(pg_catalog.jsonb_object_agg(object_type, object_id ORDER BY object_id DESC), '{}') AS ids,
            pg_catalog.count(*) FILTER (WHERE object_type = 'payment_intent') AS intents
        FROM billhook.payment_refs WHERE payment_id = payment
    ), refunds AS (
        SELECT r.*, parent.id AS parent_intent,
            CASE WHEN r.status = 'refunded' AND nothing_taken THEN 'failed' ELSE r.status END AS shown,
            (refs.ids || coalesce(t.related_object_ids, '{}')) - 'payment_intent'::text
                || CASE WHEN parent.id IS NULL THEN '{}'
                        ELSE pg_catalog.jsonb_build_object('payment_intent'::text, parent.id) END
                || CASE WHEN r.charge_id IS NULL THEN '{}'
                        ELSE pg_catalog.jsonb_build_object('charge'::text, r.charge_id) END
                || pg_catalog.jsonb_build_object('refund'::text, r.object_id) AS related
        FROM billhook.payment_refunds r CROSS JOIN refs
        CROSS JOIN LATERAL (
            SELECT coalesce(
                r.payment_intent_id,
                CASE WHEN refs.intents > 1 THEN (
                    SELECT s.related ->> 'payment_intent'::text FROM billhook.payment_sources s
                    WHERE s.payment_id = payment AND s.related ->> 'charge'::text = r.charge_id
                    ORDER BY s.place, s.object_id LIMIT 1)
                ELSE refs.ids ->> 'payment_intent'::text END) AS id) AS parent
        WHERE r.payment_id = payment AND r.object_type = 'refund'
        ORDER BY r.object_id
    )
    INSERT INTO payments.transactions AS old (
        provider, environment, type, status, subject_type, subject_id, provider_customer_id,
        customer_email_snapshot, provider_object_type, provider_object_id,
        provider_parent_object_type, provider_parent_object_id, related_object_ids, amount,
        amount_refunded, currency, description, failed_at, refunded_at, provider_created_at,
        raw, payment_id)
    SELECT 'stripe', r.environment, 'refund', r.shown, t.subject_type, t.subject_id,
        t.provider_customer_id, t.customer_email_snapshot, 'refund', r.object_id,
        CASE WHEN r.parent_intent IS NOT NULL THEN 'payment_intent'
             WHEN r.related ? 'charge'::text THEN 'charge' END,
        coalesce(r.parent_intent, r.related ->> 'charge'::text),
        r.related, r.amount, r.amount, r.currency, coalesce(r.description, t.description),
        CASE WHEN r.shown = 'failed' THEN r.provider_created_at END,
        CASE WHEN r.shown = 'refunded' THEN r.provider_created_at END,
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
            old.amount, old.amount_refunded, old.currency, old.description, old.payment_id)
        IS DISTINCT FROM ROW(EXCLUDED.status, EXCLUDED.subject_type, EXCLUDED.subject_id,
            EXCLUDED.provider_customer_id, EXCLUDED.customer_email_snapshot,
            EXCLUDED.provider_parent_object_id, EXCLUDED.related_object_ids,
            EXCLUDED.amount, EXCLUDED.amount_refunded, EXCLUDED.currency, EXCLUDED.description,
            EXCLUDED.payment_id)
       OR EXCLUDED.provider_object_id = changed_object
$$;

-- One event's facts about one payment. `x` is {refs: {type: [id, …]}, source?: {…}, refund?: {…}}.
-- An event that is told again (a replay, a repair) writes its object again, so that a row that other
-- hands removed comes back whole.
CREATE OR REPLACE FUNCTION billhook.record_payment(
    env text, x jsonb, event_at timestamptz, event_id text, object jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    payment bigint;
    changed boolean := false;
    s jsonb := x -> 'source'::text;
    r jsonb := x -> 'refund'::text;
BEGIN
    SELECT billhook.join_payment(
        env, pg_catalog.array_agg(of_type.key), pg_catalog.array_agg(ids.id))
    INTO payment
    FROM pg_catalog.jsonb_each(x -> 'refs'::text) AS of_type,
        pg_catalog.jsonb_array_elements_text(of_type.value) AS ids(id);

    IF s IS NOT NULL THEN
        INSERT INTO billhook.payment_sources AS known (
            environment, object_type, object_id, outcome, payment_id, version_at,
            version_event_id, place, type, subject_type, subject_id, customer_id, email, amount,
            full_amount, currency, presentment_amount, presentment_currency, out_of_band,
            description, happened_at, provider_created_at, related)
        VALUES (
            env, s ->> 'object_type'::text, s ->> 'object_id'::text, s ->> 'outcome'::text, payment,
            event_at, event_id, (s ->> 'place'::text)::smallint, s ->> 'type'::text,
            s ->> 'subject_type'::text, s ->> 'subject_id'::text, s ->> 'customer_id'::text,
            s ->> 'email'::text, (s ->> 'amount'::text)::bigint,
            (s ->> 'full_amount'::text)::bigint, s ->> 'currency'::text,
            (s ->> 'presentment_amount'::text)::bigint, s ->> 'presentment_currency'::text,
            (s ->> 'out_of_band'::text)::boolean, s ->> 'description'::text,
            pg_catalog.to_timestamp((s ->> 'happened_at'::text)::double precision),
            pg_catalog.to_timestamp((s ->> 'created'::text)::double precision),
            s -> 'related'::text)
        ON CONFLICT (environment, object_type, object_id, outcome) DO UPDATE SET
            version_at = EXCLUDED.version_at, version_event_id = EXCLUDED.version_event_id,
            place = EXCLUDED.place, type = EXCLUDED.type,
            subject_type = EXCLUDED.subject_type, subject_id = EXCLUDED.subject_id,
            customer_id = EXCLUDED.customer_id, email = EXCLUDED.email,
            amount = EXCLUDED.amount, full_amount = EXCLUDED.full_amount,
            currency = EXCLUDED.currency, presentment_amount = EXCLUDED.presentment_amount,
            presentment_currency = EXCLUDED.presentment_currency,
            out_of_band = EXCLUDED.out_of_band,
            description = EXCLUDED.description, happened_at = EXCLUDED.happened_at,
            provider_created_at = EXCLUDED.provider_created_at, related = EXCLUDED.related
        WHERE (known.version_at, known.version_event_id)
            <= (EXCLUDED.version_at, EXCLUDED.version_event_id);
        changed := FOUND;
    END IF;

    IF r IS NOT NULL THEN
        INSERT INTO billhook.payment_refunds AS known (
            environment, object_type, object_id, payment_id, version_at, version_rank,
            version_event_id, status, amount, currency, presentment_amount, presentment_currency,
            description, payment_intent_id, charge_id, provider_created_at)
        VALUES (
            env, r ->> 'object_type'::text, r ->> 'object_id'::text, payment,
            event_at, (r ->> 'rank'::text)::smallint, event_id, r ->> 'status'::text,
            (r ->> 'amount'::text)::bigint, r ->> 'currency'::text,
            (r ->> 'presentment_amount'::text)::bigint, r ->> 'presentment_currency'::text,
            r ->> 'description'::text, r ->> 'payment_intent_id'::text, r ->> 'charge_id'::text,
            pg_catalog.to_timestamp((r ->> 'created'::text)::double precision))
        ON CONFLICT (environment, object_type, object_id) DO UPDATE SET
            version_at = EXCLUDED.version_at, version_rank = EXCLUDED.version_rank,
            version_event_id = EXCLUDED.version_event_id, status = EXCLUDED.status,
            amount = EXCLUDED.amount, currency = EXCLUDED.currency,
            presentment_amount = EXCLUDED.presentment_amount,
            presentment_currency = EXCLUDED.presentment_currency,
            description = EXCLUDED.description, payment_intent_id = EXCLUDED.payment_intent_id,
            charge_id = EXCLUDED.charge_id, provider_created_at = EXCLUDED.provider_created_at
        WHERE (known.version_at, known.version_rank, known.amount, known.version_event_id)
            <= (EXCLUDED.version_at, EXCLUDED.version_rank, EXCLUDED.amount,
                EXCLUDED.version_event_id);
        changed := changed OR FOUND;
    END IF;

    PERFORM billhook.project_payment(
        payment,
        CASE WHEN changed THEN coalesce(s ->> 'object_id'::text, r ->> 'object_id'::text) END,
        s ->> 'outcome'::text, object);
    IF r IS NOT NULL OR s ->> 'object_type'::text = 'invoice' THEN
        PERFORM billhook.doubt_payment(env, payment, s, r);
    END IF;
END $$;

-- What is missing usually comes with the next event: the recovery worker looks in a minute.
CREATE OR REPLACE FUNCTION billhook.doubt_payment(env text, payment bigint, s jsonb, r jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF r IS NOT NULL AND NOT EXISTS (
        SELECT FROM billhook.payment_sources known
        WHERE known.payment_id = payment AND known.outcome IN ('succeeded', 'canceled'))
    THEN
        PERFORM billhook.doubt(env, r ->> 'object_type'::text, r ->> 'object_id'::text,
            'it is not known what its payment took');
    ELSIF s ->> 'object_type'::text = 'invoice' AND (s ->> 'amount'::text)::bigint > 0
       AND (s ->> 'out_of_band'::text) IS DISTINCT FROM 'true'
       AND (s ? 'full_amount'::text OR NOT EXISTS (
            SELECT FROM billhook.payment_refs known
            WHERE known.payment_id = payment AND known.object_type = 'payment_intent'))
    THEN
        PERFORM billhook.doubt(env, 'invoice', s ->> 'object_id'::text,
            'it is not known which PaymentIntents paid it');
    END IF;
END $$;

-- Mark an object to be asked of Stripe, should it still be in doubt in a minute.
CREATE OR REPLACE FUNCTION billhook.doubt(env text, object_type text, object_id text, reason text)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO billhook.refreshes (environment, object_type, object_id, reason, next_at)
    VALUES (env, object_type, object_id, reason, now() + interval '1 minute')
    ON CONFLICT DO NOTHING
$$;
