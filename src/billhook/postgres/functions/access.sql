-- Who has access to what: for the policies, queries and reports of the app (docs/how-to/grant-access.md).
-- The rule is in postgres/access_rule.py: `is_open` and `unpaid_since`.
--
-- Callers cannot read the tables, so these functions run as their owner, with a fixed search_path. A
-- policy calls them for every row: each lookup reads a few entries of an index by an exact key, and
-- the settings leave the planner no choice, whatever it knows (compare load.sql).

-- One row for each item of a subscription that gives access now, if its subject is known. Both
-- environments; `until` is when access ends if nothing else happens, such as the next renewal.
CREATE OR REPLACE VIEW payments.active_subscriptions AS
SELECT s.environment, s.subject_type, s.subject_id, s.customer_id, s.subscription_id,
    i.subscription_item_id, i.product_id, p.name AS product_name,
    p.metadata ->> 'lookup_key'::text AS product_lookup_key, i.price_id, r.lookup_key, i.quantity,
    s.status, s.status = 'trialing' AS is_trial, s.trial_end, s.status = 'past_due' AS in_grace,
    CASE WHEN s.status = 'past_due' THEN least(s.unpaid_since + a.grace, s.cancel_at)
        ELSE least(s.current_period_end, s.cancel_at) END AS until,
    s.cancel_at
FROM payments.access_settings a
CROSS JOIN (
    SELECT s.*, CASE WHEN s.status = 'past_due' THEN :unpaid_since END AS unpaid_since
    FROM payments.stripe_subscriptions s
    WHERE s.subject_type IS NOT NULL AND s.subject_id IS NOT NULL
      AND :is_open
) AS s
JOIN payments.stripe_subscription_items i
    ON i.environment = s.environment AND i.subscription_id = s.subscription_id
LEFT JOIN payments.stripe_products p
    ON p.environment = i.environment AND p.product_id = i.product_id
LEFT JOIN payments.stripe_prices r ON r.environment = i.environment AND r.price_id = i.price_id
WHERE s.status <> 'past_due'
   OR a.grace > interval '0' AND s.unpaid_since + a.grace > pg_catalog.now();

-- When the oldest unpaid invoice of a subscription was due. A function of its own, which PostgreSQL
-- does not merge into a query: only subscriptions that are past due need it.
CREATE OR REPLACE FUNCTION billhook.unpaid_since(s payments.stripe_subscriptions)
RETURNS timestamptz LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT :unpaid_since
$$;

-- The items of a subject's subscriptions that give access to `what`.
CREATE OR REPLACE FUNCTION billhook.items_with_access(
    env text, of_type text, of_id text, what text, grace interval)
RETURNS TABLE (quantity bigint) LANGUAGE sql STABLE AS $$
    SELECT i.quantity
    FROM (
        SELECT s.subscription_id FROM payments.stripe_subscriptions s
        WHERE s.environment = env AND s.subject_id >= of_id AND s.subject_id <= of_id
          AND s.subject_type = of_type
          AND :is_open
          AND (s.status <> 'past_due'
               OR grace > interval '0' AND billhook.unpaid_since(s) + grace > pg_catalog.now())
        ORDER BY s.subject_id OFFSET 0) AS s
    CROSS JOIN LATERAL (
        SELECT i.product_id, i.price_id, i.quantity FROM payments.stripe_subscription_items i
        WHERE i.environment = env
          AND i.subscription_id >= s.subscription_id AND i.subscription_id <= s.subscription_id
        ORDER BY i.subscription_id OFFSET 0) AS i
    WHERE i.product_id = what OR i.price_id = what
       OR what = (
            SELECT r.lookup_key FROM payments.stripe_prices r
            WHERE r.environment = env AND r.price_id >= i.price_id AND r.price_id <= i.price_id
            ORDER BY r.price_id)
       OR what = (
            SELECT p.metadata ->> 'lookup_key'::text FROM payments.stripe_products p
            WHERE p.environment = env
              AND p.product_id >= i.product_id AND p.product_id <= i.product_id
            ORDER BY p.product_id)
$$;

-- Stripe's entitlements to the feature `what` of the customer that pays for a subject.
CREATE OR REPLACE FUNCTION billhook.entitlements_to(env text, of_type text, of_id text, what text)
RETURNS TABLE (entitlement_id text) LANGUAGE sql STABLE AS $$
    SELECT e.entitlement_id
    FROM (
        SELECT m.provider_customer_id FROM payments.customer_mappings m
        WHERE m.provider = 'stripe' AND m.environment = env AND m.subject_type = of_type
          AND m.subject_id >= of_id AND m.subject_id <= of_id
        ORDER BY m.subject_id OFFSET 0) AS m
    CROSS JOIN LATERAL (
        SELECT e.entitlement_id, e.lookup_key FROM payments.stripe_active_entitlements e
        WHERE e.environment = env
          AND e.customer_id >= m.provider_customer_id AND e.customer_id <= m.provider_customer_id
        ORDER BY e.customer_id OFFSET 0) AS e
    WHERE e.lookup_key = what
$$;

-- What a subject has of `what`: the id of a product or price, the lookup key of a price, the
-- `lookup_key` in a product's metadata, or the lookup key of a feature. The quantity of the items
-- together, 0 where there is none to count, such as for a feature; null without access.
CREATE OR REPLACE FUNCTION payments.access_quantity(
    subject_type text, subject_id text, what text,
    environment text DEFAULT NULL, grace interval DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER COST 1000
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
BEGIN
    IF environment IS NULL OR grace IS NULL THEN
        SELECT coalesce($4, a.environment), coalesce($5, a.grace) INTO environment, grace
        FROM payments.access_settings a;
    END IF;
    RETURN coalesce(
        (SELECT sum(coalesce(i.quantity, 0::bigint))::bigint
         FROM billhook.items_with_access($4, $1, $2, $3, $5) i),
        (SELECT 0::bigint FROM billhook.entitlements_to($4, $1, $2, $3) LIMIT 1));
END $$;

-- Whether a subject has access to `what`. PostgreSQL replaces this, and what follows, by the call in
-- it: none of them costs anything.
CREATE OR REPLACE FUNCTION payments.has_access(
    subject_type text, subject_id text, what text,
    environment text DEFAULT NULL, grace interval DEFAULT NULL)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE COST 1000 AS $$
    SELECT payments.access_quantity(
        subject_type, subject_id, what, environment, grace) IS NOT NULL
$$;

-- The same for ids of other types, such as uuid and bigint.
CREATE OR REPLACE FUNCTION payments.has_access(
    subject_type text, subject_id anynonarray, what text,
    environment text DEFAULT NULL, grace interval DEFAULT NULL)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE COST 1000 AS $$
    SELECT payments.access_quantity(
        subject_type, subject_id::text, what, environment, grace) IS NOT NULL
$$;
CREATE OR REPLACE FUNCTION payments.access_quantity(
    subject_type text, subject_id anynonarray, what text,
    environment text DEFAULT NULL, grace interval DEFAULT NULL)
RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE COST 1000 AS $$
    SELECT payments.access_quantity(subject_type, subject_id::text, what, environment, grace)
$$;

-- Whether the caller has access: the subject whose id is a claim of the caller's token.
CREATE OR REPLACE FUNCTION payments.my_access(
    what text, subject_type text DEFAULT 'user', claim text DEFAULT 'sub',
    environment text DEFAULT NULL, grace interval DEFAULT NULL)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER COST 1000
SET search_path = pg_catalog, pg_temp AS $$
    SELECT payments.access_quantity(
        subject_type,
        nullif(current_setting('request.jwt.claims'::text, true), ''::text)::jsonb ->> claim,
        what, environment, grace) IS NOT NULL
$$;
