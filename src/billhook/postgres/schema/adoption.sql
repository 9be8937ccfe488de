-- Adopts the rows of a database that InsForge created. Runs once: when the schema is created, after
-- the functions. Payments are registered by their objects and mappings become claims, so that later
-- events find the existing rows. On a new database there is nothing to do.

INSERT INTO billhook.customer_claims (
    environment, customer_id, subject_type, subject_id, kind, ref, claimed_at, outside_ledger)
SELECT environment, provider_customer_id, subject_type, subject_id, 'checkout', 'adopted',
    updated_at, true
FROM payments.customer_mappings
WHERE provider = 'stripe'
  AND pg_catalog.octet_length(provider_customer_id) + pg_catalog.octet_length(subject_type) + pg_catalog.octet_length(subject_id) <= 2500
ON CONFLICT DO NOTHING;

UPDATE payments.stripe_subscriptions SET pause_collection = raw -> 'pause_collection'::text
WHERE pg_catalog.jsonb_typeof(raw -> 'pause_collection'::text) = 'object';

-- One payment per row that is not a refund, numbered by age.
UPDATE payments.transactions t SET payment_id = numbered.payment_id
FROM (
    SELECT id, pg_catalog.nextval('billhook.payment_ids') AS payment_id
    FROM (SELECT id FROM payments.transactions
          WHERE provider = 'stripe' AND type <> 'refund' AND payment_id IS NULL
          ORDER BY created_at, id) AS by_age
) AS numbered
WHERE t.id = numbered.id;

INSERT INTO billhook.payment_refs (environment, object_type, object_id, payment_id)
SELECT t.environment, ref.key, ref.value, pg_catalog.min(t.payment_id)
FROM payments.transactions t
CROSS JOIN LATERAL pg_catalog.jsonb_each_text(
    t.related_object_ids || CASE WHEN t.provider_object_id IS NULL THEN '{}'
        ELSE pg_catalog.jsonb_build_object(t.provider_object_type, t.provider_object_id) END) AS ref
WHERE t.provider = 'stripe' AND t.type <> 'refund' AND t.payment_id IS NOT NULL
  AND ref.key IN ('payment_intent', 'charge', 'invoice', 'checkout_session')
GROUP BY 1, 2, 3
ON CONFLICT DO NOTHING;

-- The row's values count as its object's state before all later events.
INSERT INTO billhook.payment_sources (
    environment, object_type, object_id, outcome, payment_id, version_at, version_event_id, place,
    type, subject_type, subject_id, customer_id, email, amount, currency, out_of_band, description,
    happened_at, provider_created_at, related)
SELECT t.environment, t.provider_object_type, t.provider_object_id,
    CASE WHEN t.status IN ('succeeded', 'refunded', 'partially_refunded') THEN 'succeeded'
         ELSE t.status END,
    t.payment_id, coalesce(t.provider_created_at, t.created_at), '',
    CASE t.provider_object_type
        WHEN 'payment_intent' THEN 1 WHEN 'invoice' THEN 2 ELSE 4 END,
    t.type, t.subject_type, t.subject_id, t.provider_customer_id, t.customer_email_snapshot,
    t.amount, t.currency, false, t.description, coalesce(t.paid_at, t.failed_at),
    t.provider_created_at, t.related_object_ids - 'refund'::text
FROM payments.transactions t
WHERE t.provider = 'stripe' AND t.type <> 'refund' AND t.payment_id IS NOT NULL
  AND t.provider_object_type IN ('payment_intent', 'invoice', 'checkout_session')
  AND t.provider_object_id IS NOT NULL
ON CONFLICT DO NOTHING;

-- Refunds: under the payment that one of their objects belongs to, otherwise standalone.
WITH homes AS (
    SELECT r.id, coalesce(pg_catalog.min(known.payment_id), pg_catalog.nextval('billhook.payment_ids')) AS payment_id
    FROM payments.transactions r
    LEFT JOIN LATERAL (
        SELECT ref.payment_id
        FROM pg_catalog.jsonb_each_text(r.related_object_ids || CASE
            WHEN r.provider_parent_object_id IS NULL THEN '{}'
            ELSE pg_catalog.jsonb_build_object(r.provider_parent_object_type, r.provider_parent_object_id) END) AS mine
        JOIN billhook.payment_refs ref
          ON ref.environment = r.environment AND ref.object_type = mine.key
         AND ref.object_id = mine.value
        WHERE mine.key IN ('payment_intent', 'charge')) AS known ON true
    WHERE r.provider = 'stripe' AND r.type = 'refund' AND r.payment_id IS NULL
    GROUP BY r.id
)
UPDATE payments.transactions r SET payment_id = homes.payment_id FROM homes WHERE r.id = homes.id;

INSERT INTO billhook.payment_refs (environment, object_type, object_id, payment_id)
SELECT r.environment, ref.key, ref.value, pg_catalog.min(r.payment_id)
FROM payments.transactions r
CROSS JOIN LATERAL pg_catalog.jsonb_each_text(
    r.related_object_ids || CASE WHEN r.provider_object_id IS NULL THEN '{}'
        ELSE pg_catalog.jsonb_build_object('refund', r.provider_object_id) END) AS ref
WHERE r.provider = 'stripe' AND r.type = 'refund' AND ref.key IN ('payment_intent', 'charge', 'refund')
GROUP BY 1, 2, 3
ON CONFLICT DO NOTHING;

INSERT INTO billhook.payment_refunds (
    environment, object_type, object_id, payment_id, version_at, version_rank, version_event_id,
    status, amount, currency, description, charge_id, provider_created_at)
SELECT r.environment, 'refund', r.provider_object_id, r.payment_id,
    coalesce(r.provider_created_at, r.created_at), 0, '', r.status, coalesce(r.amount, 0),
    r.currency, r.description, r.related_object_ids ->> 'charge'::text, r.provider_created_at
FROM payments.transactions r
WHERE r.provider = 'stripe' AND r.type = 'refund' AND r.provider_object_id IS NOT NULL
  AND r.status IN ('pending', 'refunded', 'failed')
ON CONFLICT DO NOTHING;

-- The refunded total of a row counts until a charge reports one, and includes the refunds known to
-- the row: those up to the last one.
INSERT INTO billhook.payment_refunds (
    environment, object_type, object_id, payment_id, version_at, version_rank, version_event_id,
    status, amount, currency, provider_created_at)
SELECT t.environment, 'transaction', t.id::text, t.payment_id,
    coalesce(t.refunded_at, t.created_at), 0, '', 'refunded', t.amount_refunded, t.currency,
    GREATEST(t.refunded_at, known.last_at)
FROM payments.transactions t
LEFT JOIN LATERAL (
    SELECT pg_catalog.max(r.provider_created_at) AS last_at FROM billhook.payment_refunds r
    WHERE r.payment_id = t.payment_id AND r.object_type = 'refund') AS known ON true
WHERE t.provider = 'stripe' AND t.type <> 'refund' AND t.payment_id IS NOT NULL
  AND t.amount_refunded > 0
ON CONFLICT DO NOTHING;
