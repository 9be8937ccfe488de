-- Totals of usage: from the rows, and from the days to which old rows were compacted. All of them
-- run with the rights of their caller or, for views, of Billhook.

-- The usage of a subject on a meter from `since` until before `until`, without what Stripe
-- rejected. Compacted days count if they begin within that time.
CREATE OR REPLACE FUNCTION payments.usage_between(
    environment text, subject_type text, subject_id text, meter text,
    since timestamptz, until timestamptz,
    OUT count bigint, OUT sum numeric, OUT last bigint, OUT unsent numeric
) LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.sum(part.count)::bigint, coalesce(pg_catalog.sum(part.sum), 0),
        (SELECT newest.last FROM (
            (SELECT u.value AS last, u.occurred_at AS at FROM payments.usage AS u
             WHERE u.environment = usage_between.environment
               AND u.subject_type = usage_between.subject_type
               AND u.subject_id = usage_between.subject_id AND u.meter = usage_between.meter
               AND u.occurred_at >= since AND u.occurred_at < until AND u.status <> 'failed'
             ORDER BY u.occurred_at DESC, u.id DESC LIMIT 1)
            UNION ALL
            (SELECT d.last, d.last_at FROM payments.usage_days AS d
             WHERE d.environment = usage_between.environment
               AND d.subject_type = usage_between.subject_type
               AND d.subject_id = usage_between.subject_id AND d.meter = usage_between.meter
               AND d.day >= (since AT TIME ZONE 'UTC')::date
               AND d.day < (until AT TIME ZONE 'UTC')::date
             ORDER BY d.day DESC LIMIT 1)
         ) AS newest ORDER BY newest.at DESC LIMIT 1),
        coalesce(pg_catalog.sum(part.unsent), 0)
    FROM (
        SELECT pg_catalog.count(*) AS count, pg_catalog.sum(u.value) AS sum,
            pg_catalog.sum(u.value) FILTER (WHERE u.status <> 'sent') AS unsent
        FROM payments.usage AS u
        WHERE u.environment = usage_between.environment
          AND u.subject_type = usage_between.subject_type
          AND u.subject_id = usage_between.subject_id AND u.meter = usage_between.meter
          AND u.occurred_at >= since AND u.occurred_at < until AND u.status <> 'failed'
        UNION ALL
        SELECT coalesce(pg_catalog.sum(d.count), 0), pg_catalog.sum(d.sum), 0
        FROM payments.usage_days AS d
        WHERE d.environment = usage_between.environment
          AND d.subject_type = usage_between.subject_type
          AND d.subject_id = usage_between.subject_id AND d.meter = usage_between.meter
          AND d.day >= (since AT TIME ZONE 'UTC')::date
          AND d.day < (until AT TIME ZONE 'UTC')::date
    ) AS part;
END;

-- The current period of the subject's subscription, one that bills the meter first; without a
-- subscription, the calendar month in UTC.
CREATE OR REPLACE FUNCTION payments.usage_period(
    environment text, subject_type text, subject_id text, meter text,
    OUT subscription_id text, OUT period_start timestamptz, OUT period_end timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT found.subscription_id, found.current_period_start, found.current_period_end
    FROM (
        (SELECT 1 AS choice, s.subscription_id, s.current_period_start, s.current_period_end,
            EXISTS (
                SELECT FROM payments.stripe_subscription_items AS i
                JOIN payments.stripe_prices AS p
                  ON p.environment = i.environment AND p.price_id = i.price_id
                JOIN payments.stripe_meters AS m
                  ON m.environment = p.environment
                 AND m.meter_id = p.raw -> 'recurring'::text ->> 'meter'::text
                WHERE i.environment = s.environment AND i.subscription_id = s.subscription_id
                  AND m.event_name = usage_period.meter) AS bills_it
         FROM payments.stripe_subscriptions AS s
         WHERE s.environment = usage_period.environment
           AND s.subject_type = usage_period.subject_type
           AND s.subject_id = usage_period.subject_id
           AND s.status IN ('active', 'trialing', 'past_due', 'unpaid')
           AND s.current_period_start <= now() AND s.current_period_end > now())
        UNION ALL
        SELECT 2, NULL,
            pg_catalog.date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
            (pg_catalog.date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month')
                AT TIME ZONE 'UTC',
            false
    ) AS found
    ORDER BY found.choice, found.bills_it DESC, found.current_period_start DESC,
        found.subscription_id
    LIMIT 1;
END;

-- How much a subject has used of a meter in its current period. `quantity` is what Stripe bills: by
-- the meter's formula, and nothing for a negative sum.
CREATE OR REPLACE FUNCTION payments.usage_total(
    environment text, subject_type text, subject_id text, meter text,
    OUT subscription_id text, OUT period_start timestamptz, OUT period_end timestamptz,
    OUT count bigint, OUT sum numeric, OUT last bigint, OUT unsent numeric, OUT quantity numeric
) LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT p.subscription_id, p.period_start, p.period_end, t.count, t.sum, t.last, t.unsent,
        CASE f.formula WHEN 'count' THEN t.count WHEN 'last' THEN coalesce(t.last, 0)
            ELSE greatest(t.sum, 0) END
    FROM payments.usage_period(environment, subject_type, subject_id, meter) AS p
    CROSS JOIN LATERAL payments.usage_between(
        environment, subject_type, subject_id, meter, p.period_start, p.period_end) AS t
    LEFT JOIN LATERAL (
        SELECT m.formula FROM payments.stripe_meters AS m
        WHERE m.environment = usage_total.environment AND m.event_name = usage_total.meter
        ORDER BY m.status = 'active' DESC, m.provider_created_at DESC NULLS LAST LIMIT 1
    ) AS f ON true;
END;

-- The meters that a subject has used. Each is found in the index after the one before it, so the
-- number of rows doesn't matter.
CREATE OR REPLACE FUNCTION payments.usage_meters(
    environment text, subject_type text, subject_id text
) RETURNS SETOF text LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE recorded(meter) AS (
        (SELECT u.meter FROM payments.usage AS u
         WHERE u.environment = usage_meters.environment
           AND u.subject_type = usage_meters.subject_type
           AND u.subject_id = usage_meters.subject_id ORDER BY u.meter LIMIT 1)
        UNION ALL
        SELECT following.meter FROM recorded AS r CROSS JOIN LATERAL (
            SELECT u.meter FROM payments.usage AS u
            WHERE u.environment = usage_meters.environment
              AND u.subject_type = usage_meters.subject_type
              AND u.subject_id = usage_meters.subject_id AND u.meter > r.meter
            ORDER BY u.meter LIMIT 1) AS following
    )
    SELECT r.meter FROM recorded AS r
    UNION
    SELECT d.meter FROM payments.usage_days AS d
    WHERE d.environment = usage_meters.environment
      AND d.subject_type = usage_meters.subject_type AND d.subject_id = usage_meters.subject_id;
END;

-- The totals of every subject. Of one subject, `usage_meters` and `usage_total` read less.
CREATE OR REPLACE VIEW payments.usage_totals AS
SELECT used.environment, used.subject_type, used.subject_id, used.meter,
    t.subscription_id, t.period_start, t.period_end, t.count, t.sum, t.last, t.unsent, t.quantity
FROM (
    SELECT u.environment, u.subject_type, u.subject_id, u.meter FROM payments.usage AS u
    WHERE u.subject_id IS NOT NULL
    UNION
    SELECT d.environment, d.subject_type, d.subject_id, d.meter FROM payments.usage_days AS d
    WHERE d.subject_id IS NOT NULL
) AS used
CROSS JOIN LATERAL payments.usage_total(
    used.environment, used.subject_type, used.subject_id, used.meter) AS t;

-- How much was used on each UTC day. Add days up for months and other periods.
CREATE OR REPLACE VIEW payments.usage_by_day AS
SELECT part.environment, part.subject_type, part.subject_id, part.customer_id, part.meter,
    part.day, pg_catalog.sum(part.count)::bigint AS count, pg_catalog.sum(part.sum) AS sum
FROM (
    SELECT u.environment, u.subject_type, u.subject_id,
        CASE WHEN u.subject_id IS NULL THEN u.customer_id END AS customer_id, u.meter,
        (u.occurred_at AT TIME ZONE 'UTC')::date AS day, 1::bigint AS count,
        u.value::numeric AS sum
    FROM payments.usage AS u WHERE u.status <> 'failed'
    UNION ALL
    SELECT d.environment, d.subject_type, d.subject_id, d.customer_id, d.meter, d.day, d.count,
        d.sum
    FROM payments.usage_days AS d
) AS part
GROUP BY part.environment, part.subject_type, part.subject_id, part.customer_id, part.meter,
    part.day;
