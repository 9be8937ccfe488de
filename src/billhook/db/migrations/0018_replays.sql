-- As in 0006_transactions.sql, but that an event which is told again (a replay, a repair) writes its
-- object again: so a row that other hands removed comes back whole.
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
