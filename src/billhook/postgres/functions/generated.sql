-- Generated from the declarations in billhook/kinds and billhook/rows; do not edit:
-- python -m billhook.rows.functions > src/billhook/postgres/functions/generated.sql

-- Load what a batch touches by complete keys. `wanted` says which: rows.loading.Wanted. Only
-- `billhook.load_batch` calls it, whose settings leave the planner no choice.
CREATE OR REPLACE FUNCTION :billhook.load_rows(env text, wanted jsonb, OUT loaded json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ledger json;
    archived json;
    sessions json;
    of_product json;
    of_price json;
    of_customer json;
    of_subscription json;
    of_invoice json;
    of_dispute json;
    of_payment_method json;
    of_billing_meter json;
    of_entitlements_feature json;
    of_entitlements_active_entitlement_summary json;
    tombstones json;
    ties json;
    claims_of json;
    claims_on json;
    claims json;
    deleted_customers json;
    mapped json;
    held json;
    unnamed_subscription json;
    unnamed_invoice json;
    unnamed_payment_method json;
    states json;
    histories json;
    discounts json;
    movements json;
BEGIN
    IF wanted ? 'events'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.provider_event_id,
            t.id,
            t.processing_status,
            t.attempt_count,
            t.last_error,
            t.received_at,
            t.processed_at,
            t.created_at,
            t.updated_at,
            (SELECT o.account_id FROM billhook.events_of_others(env) o WHERE o.event_id = w.id)))
        INTO ledger
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'events'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM payments.webhook_events t
            WHERE t.provider = 'stripe'::text AND t.environment = env
              AND t.provider_event_id >= w.id AND t.provider_event_id <= w.id
            ORDER BY t.provider_event_id LIMIT 1) t;
    END IF;
    IF wanted ? 'old_events'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.event_id,
            t.content))
        INTO archived
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'old_events'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.archived_events t
            WHERE t.environment = env
              AND t.event_id >= w.id AND t.event_id <= w.id
            ORDER BY t.event_id LIMIT 1) t;
    END IF;
    IF wanted ? 'sessions'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            w.session_id,
            t.id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank))
        INTO sessions
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'sessions'::text) AS w(session_id text, row_id uuid)
        CROSS JOIN LATERAL (
            SELECT * FROM (
            (SELECT * FROM :payments.stripe_checkout_sessions t
            WHERE t.environment = env
              AND t.checkout_session_id >= w.session_id AND t.checkout_session_id <= w.session_id
            ORDER BY t.checkout_session_id LIMIT 1)
            UNION ALL
            (SELECT * FROM :payments.stripe_checkout_sessions t
             WHERE t.id = w.row_id AND t.environment = env AND t.checkout_session_id IS NULL)
            ) AS either LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'product'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.product_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            NULL::json,
            CASE WHEN wanted -> 'ties'::text -> 'product'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_product
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'product'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_products t
            WHERE t.environment = env
              AND t.product_id >= w.id AND t.product_id <= w.id
            ORDER BY t.product_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'price'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.price_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            NULL::json,
            CASE WHEN wanted -> 'ties'::text -> 'price'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_price
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'price'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_prices t
            WHERE t.environment = env
              AND t.price_id >= w.id AND t.price_id <= w.id
            ORDER BY t.price_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'customer'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.provider_customer_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            t.deleted,
            NULL::json,
            CASE WHEN wanted -> 'ties'::text -> 'customer'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_customer
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'customer'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.customers t
            WHERE t.provider = 'stripe'::text AND t.environment = env
              AND t.provider_customer_id >= w.id AND t.provider_customer_id <= w.id
            ORDER BY t.provider_customer_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'subscription'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.subscription_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            (
                SELECT pg_catalog.json_agg(t.subscription_item_id)
                FROM :payments.stripe_subscription_items t
                WHERE t.environment = env AND t.subscription_id >= w.id AND t.subscription_id <= w.id),
            CASE WHEN wanted -> 'ties'::text -> 'subscription'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_subscription
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'subscription'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_subscriptions t
            WHERE t.environment = env
              AND t.subscription_id >= w.id AND t.subscription_id <= w.id
            ORDER BY t.subscription_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'invoice'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.invoice_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            NULL::json,
            CASE WHEN wanted -> 'ties'::text -> 'invoice'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_invoice
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'invoice'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_invoices t
            WHERE t.environment = env
              AND t.invoice_id >= w.id AND t.invoice_id <= w.id
            ORDER BY t.invoice_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'dispute'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.dispute_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            NULL::json,
            CASE WHEN wanted -> 'ties'::text -> 'dispute'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_dispute
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'dispute'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_disputes t
            WHERE t.environment = env
              AND t.dispute_id >= w.id AND t.dispute_id <= w.id
            ORDER BY t.dispute_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'payment_method'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.payment_method_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            NULL::json,
            CASE WHEN wanted -> 'ties'::text -> 'payment_method'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_payment_method
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'payment_method'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_payment_methods t
            WHERE t.environment = env
              AND t.payment_method_id >= w.id AND t.payment_method_id <= w.id
            ORDER BY t.payment_method_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'billing.meter'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.meter_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            NULL::json,
            CASE WHEN wanted -> 'ties'::text -> 'billing.meter'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_billing_meter
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'billing.meter'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_meters t
            WHERE t.environment = env
              AND t.meter_id >= w.id AND t.meter_id <= w.id
            ORDER BY t.meter_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'entitlements.feature'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.feature_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            NULL::json,
            CASE WHEN wanted -> 'ties'::text -> 'entitlements.feature'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_entitlements_feature
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'entitlements.feature'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_features t
            WHERE t.environment = env
              AND t.feature_id >= w.id AND t.feature_id <= w.id
            ORDER BY t.feature_id LIMIT 1) t;
    END IF;
    IF wanted -> 'objects'::text ? 'entitlements.active_entitlement_summary'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.customer_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.provider_event_rank,
            t.provider_event_id,
            false,
            (
                SELECT pg_catalog.json_agg(t.entitlement_id)
                FROM :payments.stripe_active_entitlements t
                WHERE t.environment = env AND t.customer_id >= w.id AND t.customer_id <= w.id),
            CASE WHEN wanted -> 'ties'::text -> 'entitlements.active_entitlement_summary'::text ? w.id THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END))
        INTO of_entitlements_active_entitlement_summary
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'objects'::text -> 'entitlements.active_entitlement_summary'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_entitlement_summaries t
            WHERE t.environment = env
              AND t.customer_id >= w.id AND t.customer_id <= w.id
            ORDER BY t.customer_id LIMIT 1) t;
    END IF;
    IF wanted ? 'objects'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.object_type,
            t.object_id,
            extract(epoch FROM t.deleted_at)::bigint))
        INTO tombstones
        FROM pg_catalog.jsonb_each(wanted -> 'objects'::text) AS o(kind, ids)
        CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(o.ids) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.tombstones t
            WHERE t.environment = env AND t.object_type = o.kind
              AND t.object_id >= w.id AND t.object_id <= w.id
            ORDER BY t.object_id LIMIT 1) t;
    END IF;
    IF wanted ? 'ties'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.object_type,
            t.object_id,
            t.event_id))
        INTO ties
        FROM pg_catalog.jsonb_each(wanted -> 'ties'::text) AS o(kind, ids)
        CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(o.ids) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.ties t
            WHERE t.environment = env AND t.object_type = o.kind
              AND t.object_id >= w.id AND t.object_id <= w.id
            ORDER BY t.object_id LIMIT 1) t;
    END IF;
    IF wanted ? 'claims_of'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.customer_id,
            t.subject_type,
            t.subject_id,
            t.kind,
            t.ref,
            extract(epoch FROM t.claimed_at)::bigint))
        INTO claims_of
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'claims_of'::text) AS w(customer text, most bigint)
        CROSS JOIN LATERAL (
            (SELECT * FROM :billhook.customer_claims t
             WHERE t.environment = env AND t.customer_id >= w.customer AND t.customer_id <= w.customer
               AND t.kind = 'checkout'
             ORDER BY t.customer_id DESC, t.kind DESC, t.claimed_at DESC, t.ref DESC LIMIT w.most)
            UNION ALL
            (SELECT * FROM :billhook.customer_claims t
             WHERE t.environment = env AND t.customer_id >= w.customer AND t.customer_id <= w.customer
               AND t.kind = 'metadata'
             ORDER BY t.customer_id, t.kind, t.claimed_at, t.ref LIMIT w.most)) t;
    END IF;
    IF wanted ? 'claims_on'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.customer_id,
            t.subject_type,
            t.subject_id,
            t.kind,
            t.ref,
            extract(epoch FROM t.claimed_at)::bigint))
        INTO claims_on
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'claims_on'::text) AS w(type text, id text, most bigint)
        CROSS JOIN LATERAL (
            (SELECT * FROM :billhook.customer_claims t
             WHERE t.environment = env AND t.subject_type = w.type AND t.subject_id >= w.id AND t.subject_id <= w.id
               AND t.kind = 'checkout'
             ORDER BY t.subject_id DESC, t.kind DESC, t.claimed_at DESC, t.ref DESC LIMIT w.most)
            UNION ALL
            (SELECT * FROM :billhook.customer_claims t
             WHERE t.environment = env AND t.subject_type = w.type AND t.subject_id >= w.id AND t.subject_id <= w.id
               AND t.kind = 'metadata'
             ORDER BY t.subject_id, t.kind, t.claimed_at, t.ref LIMIT w.most)) t;
    END IF;
    IF wanted ? 'claims'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.customer_id,
            t.subject_type,
            t.subject_id,
            t.kind,
            t.ref,
            extract(epoch FROM t.claimed_at)::bigint))
        INTO claims
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'claims'::text) AS w(customer text, kind text, type text, id text, ref text)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.customer_claims t
            WHERE t.environment = env AND t.customer_id = w.customer AND t.kind = w.kind AND t.subject_type = w.type AND t.subject_id = w.id
              AND t.ref >= w.ref AND t.ref <= w.ref
            ORDER BY t.ref LIMIT 1) t;
    END IF;
    IF wanted ? 'claims_of'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.provider_customer_id,
            t.deleted))
        INTO deleted_customers
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'claims_of'::text) AS w(customer text, most bigint)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.customers t
            WHERE t.provider = 'stripe'::text AND t.environment = env
              AND t.provider_customer_id >= w.customer AND t.provider_customer_id <= w.customer
            ORDER BY t.provider_customer_id LIMIT 1) t;
    END IF;
    IF wanted ? 'claims_of'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.provider_customer_id,
            t.subject_type,
            t.subject_id))
        INTO mapped
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'claims_of'::text) AS w(customer text, most bigint)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.customer_mappings t
            WHERE t.provider = 'stripe'::text AND t.environment = env
              AND t.provider_customer_id >= w.customer AND t.provider_customer_id <= w.customer
            ORDER BY t.provider_customer_id LIMIT 1) t;
    END IF;
    IF wanted ? 'claims_on'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.provider_customer_id,
            t.subject_type,
            t.subject_id))
        INTO held
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'claims_on'::text) AS w(type text, id text, most bigint)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.customer_mappings t
            WHERE t.provider = 'stripe'::text AND t.environment = env AND t.subject_type = w.type
              AND t.subject_id >= w.id AND t.subject_id <= w.id
            ORDER BY t.subject_id LIMIT 1) t;
    END IF;
    IF wanted ? 'unnamed'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.subscription_id,
            t.customer_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.subject_type,
            t.subject_id,
            t.raw))
        INTO unnamed_subscription
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'unnamed'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_subscriptions t
            WHERE t.environment = env AND t.customer_id >= w.id AND t.customer_id <= w.id
              AND t.provider_event_at IS NOT NULL
            ORDER BY t.customer_id OFFSET 0) t;
    END IF;
    IF wanted ? 'unnamed'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.invoice_id,
            t.customer_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.subject_type,
            t.subject_id,
            t.raw))
        INTO unnamed_invoice
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'unnamed'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_invoices t
            WHERE t.environment = env AND t.customer_id >= w.id AND t.customer_id <= w.id
              AND t.provider_event_at IS NOT NULL
            ORDER BY t.customer_id OFFSET 0) t;
    END IF;
    IF wanted ? 'unnamed'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.payment_method_id,
            t.customer_id,
            extract(epoch FROM t.provider_event_at)::bigint,
            t.subject_type,
            t.subject_id,
            t.raw))
        INTO unnamed_payment_method
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'unnamed'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_payment_methods t
            WHERE t.environment = env AND t.customer_id >= w.id AND t.customer_id <= w.id
              AND t.provider_event_at IS NOT NULL
            ORDER BY t.customer_id OFFSET 0) t;
    END IF;
    IF wanted ? 'states'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.subscription_id,
            extract(epoch FROM t.at)::bigint,
            t.rank,
            t.event_id,
            t.customer_id,
            t.currency,
            t.period_amount,
            t.gross,
            t.discounts,
            t.before,
            t.had,
            extract(epoch FROM t.had_from)::bigint,
            extract(epoch FROM t.had_to)::bigint))
        INTO states
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'states'::text) AS w(id text, at bigint)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.subscription_states t
            WHERE t.environment = env AND t.subscription_id = w.id
              AND t.at >= coalesce((SELECT t.at FROM :billhook.subscription_states t
                WHERE t.environment = env AND t.subscription_id = w.id AND t.at < pg_catalog.to_timestamp(w.at::double precision)
                ORDER BY t.at DESC LIMIT 1), pg_catalog.to_timestamp(w.at::double precision))
              AND t.at <= coalesce((SELECT t.at FROM :billhook.subscription_states t
                WHERE t.environment = env AND t.subscription_id = w.id AND t.at > pg_catalog.to_timestamp(w.at::double precision)
                ORDER BY t.at ASC LIMIT 1), pg_catalog.to_timestamp(w.at::double precision))
            ORDER BY t.at OFFSET 0) t;
    END IF;
    IF wanted ? 'histories'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.subscription_id,
            extract(epoch FROM t.at)::bigint,
            t.rank,
            t.event_id,
            t.customer_id,
            t.currency,
            t.period_amount,
            t.gross,
            t.discounts,
            t.before,
            t.had,
            extract(epoch FROM t.had_from)::bigint,
            extract(epoch FROM t.had_to)::bigint))
        INTO histories
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'histories'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.subscription_states t WHERE t.environment = env AND t.subscription_id = w.id ORDER BY t.at OFFSET 0) t;
    END IF;
    IF wanted ? 'discounts'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.discount_id,
            t.percent_off,
            t.amount_off,
            t.currency,
            t.forever))
        INTO discounts
        FROM pg_catalog.jsonb_array_elements_text(wanted -> 'discounts'::text) AS w(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :billhook.discounts t
            WHERE t.environment = env
              AND t.discount_id >= w.id AND t.discount_id <= w.id
            ORDER BY t.discount_id LIMIT 1) t;
    END IF;
    IF wanted ? 'movements'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            t.customer_id,
            t.currency,
            t.day,
            t.id,
            t.kind,
            t.amount,
            t.mrr,
            t.latest))
        INTO movements
        FROM pg_catalog.jsonb_to_recordset(wanted -> 'movements'::text) AS w(customer text, currency text, since date)
        CROSS JOIN LATERAL (
            (SELECT * FROM :payments.mrr_movements t
             WHERE t.environment = env AND t.customer_id >= w.customer AND t.customer_id <= w.customer
               AND t.currency = w.currency AND t.day < w.since
             ORDER BY t.customer_id DESC, t.currency DESC, t.day DESC LIMIT 1)
            UNION ALL
            (SELECT * FROM :payments.mrr_movements t
             WHERE t.environment = env AND t.customer_id >= w.customer AND t.customer_id <= w.customer
               AND t.currency = w.currency AND t.day >= w.since
             ORDER BY t.customer_id, t.currency, t.day OFFSET 0)) t;
    END IF;
    loaded := pg_catalog.json_build_object(
        'ledger', ledger, 'archived', archived, 'sessions', sessions, 'of_product',
            of_product, 'of_price', of_price, 'of_customer', of_customer, 'of_subscription',
            of_subscription, 'of_invoice', of_invoice, 'of_dispute', of_dispute,
            'of_payment_method', of_payment_method, 'of_billing_meter', of_billing_meter,
            'of_entitlements_feature', of_entitlements_feature,
            'of_entitlements_active_entitlement_summary',
            of_entitlements_active_entitlement_summary, 'tombstones', tombstones, 'ties', ties,
            'claims_of', claims_of, 'claims_on', claims_on, 'claims', claims,
            'deleted_customers', deleted_customers, 'mapped', mapped, 'held', held,
            'unnamed_subscription', unnamed_subscription, 'unnamed_invoice', unnamed_invoice,
            'unnamed_payment_method', unnamed_payment_method, 'states', states, 'histories',
            histories, 'discounts', discounts, 'movements', movements);
END $$;

-- Load all that is known of payments.
CREATE OR REPLACE FUNCTION :billhook.load_payment_rows(ids bigint[], OUT loaded json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    payment_refs json;
    payment_sources json;
    payment_refunds json;
    transactions json;
    disputes json;
BEGIN
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        t.object_type, t.object_id, t.payment_id))
    INTO payment_refs FROM :billhook.payment_refs t WHERE t.payment_id = ANY (ids);
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        t.object_type, t.object_id, t.outcome, t.payment_id, extract(epoch FROM
            t.version_at)::bigint, t.version_event_id, t.place, t.type, t.subject_type,
            t.subject_id, t.customer_id, t.email, t.amount, t.full_amount, t.currency,
            t.presentment_amount, t.presentment_currency, t.out_of_band, t.description,
            extract(epoch FROM t.happened_at)::bigint, extract(epoch FROM
            t.provider_created_at)::bigint, t.related))
    INTO payment_sources FROM :billhook.payment_sources t WHERE t.payment_id = ANY (ids);
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        t.object_type, t.object_id, t.payment_id, extract(epoch FROM t.version_at)::bigint,
            t.version_rank, t.version_event_id, t.status, t.amount, t.currency,
            t.presentment_amount, t.presentment_currency, t.description, t.payment_intent_id,
            t.charge_id, extract(epoch FROM t.provider_created_at)::bigint))
    INTO payment_refunds FROM :billhook.payment_refunds t WHERE t.payment_id = ANY (ids);
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        t.id, t.type, t.status, t.subject_type, t.subject_id, t.provider_customer_id,
            t.customer_email_snapshot, t.provider_object_type, t.provider_object_id,
            t.provider_parent_object_type, t.provider_parent_object_id, t.related_object_ids,
            t.amount, t.amount_refunded, t.amount_out_of_band, t.amount_disputed, t.amount_lost,
            t.currency, t.description, extract(epoch FROM t.paid_at)::bigint, extract(epoch FROM
            t.failed_at)::bigint, extract(epoch FROM t.refunded_at)::bigint, extract(epoch FROM
            t.canceled_at)::bigint, extract(epoch FROM t.provider_created_at)::bigint,
            t.dispute_status, t.dispute_reason, extract(epoch FROM t.dispute_due_by)::bigint,
            extract(epoch FROM t.disputed_at)::bigint, t.payment_id))
    INTO transactions FROM :payments.transactions t WHERE t.payment_id = ANY (ids);
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        r.payment_id, t.dispute_id, t.status, t.reason, t.amount, t.currency,
        extract(epoch FROM t.evidence_due_by)::bigint, extract(epoch FROM t.provider_created_at)::bigint))
    INTO disputes
    FROM :billhook.payment_refs r
    CROSS JOIN LATERAL (
            SELECT * FROM :payments.stripe_disputes t
            WHERE t.environment = r.environment
              AND t.dispute_id >= r.object_id AND t.dispute_id <= r.object_id
            ORDER BY t.dispute_id LIMIT 1) t
    WHERE r.payment_id = ANY (ids) AND r.object_type = 'dispute'::text;
    loaded := pg_catalog.json_build_object(
        'payment_refs', payment_refs, 'payment_sources', payment_sources, 'payment_refunds',
            payment_refunds, 'transactions', transactions, 'disputes', disputes);
END $$;

-- Save the rows that a batch changed: for each table an upsert by the complete key, after the rows
-- that go. A row's `raw` is the number of one of `documents`, in which `object_path` leads to
-- Stripe's object.
CREATE OR REPLACE FUNCTION :billhook.save_rows(
    env text, rows jsonb, documents jsonb[], object_path text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gone text;
    changed record;
BEGIN
    IF rows ? 'stripe_products_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_products_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_products WHERE id = (SELECT t.id FROM :payments.stripe_products t
            WHERE t.environment = env
              AND t.product_id >= gone AND t.product_id <= gone
            ORDER BY t.product_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_prices_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_prices_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_prices WHERE id = (SELECT t.id FROM :payments.stripe_prices t
            WHERE t.environment = env
              AND t.price_id >= gone AND t.price_id <= gone
            ORDER BY t.price_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_subscriptions_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_subscriptions_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_subscriptions WHERE id = (SELECT t.id FROM :payments.stripe_subscriptions t
            WHERE t.environment = env
              AND t.subscription_id >= gone AND t.subscription_id <= gone
            ORDER BY t.subscription_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_subscription_items_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_subscription_items_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_subscription_items WHERE id = (SELECT t.id FROM :payments.stripe_subscription_items t
            WHERE t.environment = env
              AND t.subscription_item_id >= gone AND t.subscription_item_id <= gone
            ORDER BY t.subscription_item_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_invoices_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_invoices_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_invoices WHERE id = (SELECT t.id FROM :payments.stripe_invoices t
            WHERE t.environment = env
              AND t.invoice_id >= gone AND t.invoice_id <= gone
            ORDER BY t.invoice_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_disputes_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_disputes_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_disputes WHERE id = (SELECT t.id FROM :payments.stripe_disputes t
            WHERE t.environment = env
              AND t.dispute_id >= gone AND t.dispute_id <= gone
            ORDER BY t.dispute_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_payment_methods_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_payment_methods_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_payment_methods WHERE id = (SELECT t.id FROM :payments.stripe_payment_methods t
            WHERE t.environment = env
              AND t.payment_method_id >= gone AND t.payment_method_id <= gone
            ORDER BY t.payment_method_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_meters_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_meters_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_meters WHERE id = (SELECT t.id FROM :payments.stripe_meters t
            WHERE t.environment = env
              AND t.meter_id >= gone AND t.meter_id <= gone
            ORDER BY t.meter_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_features_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_features_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_features WHERE id = (SELECT t.id FROM :payments.stripe_features t
            WHERE t.environment = env
              AND t.feature_id >= gone AND t.feature_id <= gone
            ORDER BY t.feature_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_entitlement_summaries_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_entitlement_summaries_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_entitlement_summaries WHERE id = (SELECT t.id FROM :payments.stripe_entitlement_summaries t
            WHERE t.environment = env
              AND t.customer_id >= gone AND t.customer_id <= gone
            ORDER BY t.customer_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'stripe_active_entitlements_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'stripe_active_entitlements_deleted'::text)
        LOOP
            DELETE FROM :payments.stripe_active_entitlements WHERE id = (SELECT t.id FROM :payments.stripe_active_entitlements t
            WHERE t.environment = env
              AND t.entitlement_id >= gone AND t.entitlement_id <= gone
            ORDER BY t.entitlement_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'customer_mappings_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'customer_mappings_deleted'::text)
        LOOP
            DELETE FROM :payments.customer_mappings WHERE id = (SELECT t.id FROM :payments.customer_mappings t
            WHERE t.provider = 'stripe'::text AND t.environment = env
              AND t.provider_customer_id >= gone AND t.provider_customer_id <= gone
            ORDER BY t.provider_customer_id LIMIT 1);
        END LOOP;
    END IF;
    IF rows ? 'transactions_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'transactions_deleted'::text)
        LOOP
            DELETE FROM :payments.transactions WHERE id = gone::uuid;
        END LOOP;
    END IF;
    IF rows ? 'mrr_movements_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> 'mrr_movements_deleted'::text)
        LOOP
            DELETE FROM :payments.mrr_movements WHERE id = gone::uuid;
        END LOOP;
    END IF;
    IF rows ? 'stripe_products'::text THEN
        INSERT INTO :payments.stripe_products AS old (
            environment, product_id, name, description, active, default_price_id, metadata, raw,
            provider_event_at, provider_event_rank, provider_event_id, provider_event_previous,
            synced_at)
        SELECT
            env, r.product_id, r.name, r.description, r.active, r.default_price_id, r.metadata,
            coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_products'::text) AS r(
            product_id text, name text, description text, active boolean, default_price_id text,
            metadata jsonb, raw integer, provider_event_at bigint, provider_event_rank smallint,
            provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (environment, product_id) DO UPDATE SET
            name = EXCLUDED.name,
            description = EXCLUDED.description,
            active = EXCLUDED.active,
            default_price_id = EXCLUDED.default_price_id,
            metadata = EXCLUDED.metadata,
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'stripe_prices'::text THEN
        INSERT INTO :payments.stripe_prices AS old (
            environment, price_id, product_id, active, currency, unit_amount,
            unit_amount_decimal, type, lookup_key, billing_scheme, tax_behavior,
            recurring_interval, recurring_interval_count, metadata, raw, provider_event_at,
            provider_event_rank, provider_event_id, provider_event_previous, synced_at)
        SELECT
            env, r.price_id, r.product_id, r.active, r.currency, r.unit_amount,
            r.unit_amount_decimal, r.type, r.lookup_key, r.billing_scheme, r.tax_behavior,
            r.recurring_interval, r.recurring_interval_count, r.metadata,
            coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_prices'::text) AS r(
            price_id text, product_id text, active boolean, currency text, unit_amount bigint,
            unit_amount_decimal text, type text, lookup_key text, billing_scheme text,
            tax_behavior text, recurring_interval text, recurring_interval_count integer,
            metadata jsonb, raw integer, provider_event_at bigint, provider_event_rank smallint,
            provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (environment, price_id) DO UPDATE SET
            product_id = EXCLUDED.product_id,
            active = EXCLUDED.active,
            currency = EXCLUDED.currency,
            unit_amount = EXCLUDED.unit_amount,
            unit_amount_decimal = EXCLUDED.unit_amount_decimal,
            type = EXCLUDED.type,
            lookup_key = EXCLUDED.lookup_key,
            billing_scheme = EXCLUDED.billing_scheme,
            tax_behavior = EXCLUDED.tax_behavior,
            recurring_interval = EXCLUDED.recurring_interval,
            recurring_interval_count = EXCLUDED.recurring_interval_count,
            metadata = EXCLUDED.metadata,
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'customers'::text THEN
        INSERT INTO :payments.customers AS old (
            provider, environment, provider_customer_id, email, name, phone, metadata,
            provider_created_at, deleted, raw, provider_event_at, provider_event_rank,
            provider_event_id, provider_event_previous, synced_at)
        SELECT
            'stripe', env, r.provider_customer_id, r.email, r.name, r.phone, r.metadata,
            pg_catalog.to_timestamp(r.provider_created_at::double precision), r.deleted,
            coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'customers'::text) AS r(
            provider_customer_id text, email text, name text, phone text, metadata jsonb,
            provider_created_at bigint, deleted boolean, raw integer, provider_event_at bigint,
            provider_event_rank smallint, provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (provider, environment, provider_customer_id) DO UPDATE SET
            email = EXCLUDED.email,
            name = EXCLUDED.name,
            phone = EXCLUDED.phone,
            metadata = EXCLUDED.metadata,
            provider_created_at = coalesce(EXCLUDED.provider_created_at, old.provider_created_at),
            deleted = old.deleted OR EXCLUDED.deleted,
            raw = billhook.keep_expanded(old.raw, EXCLUDED.raw),
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'stripe_subscriptions'::text THEN
        INSERT INTO :payments.stripe_subscriptions AS old (
            environment, subscription_id, customer_id, status, current_period_start,
            current_period_end, cancel_at_period_end, cancel_at, canceled_at, trial_start,
            trial_end, pause_collection, latest_invoice_id, metadata, subject_type, subject_id,
            currency, mrr, renewal_amount, raw, provider_event_at, provider_event_rank,
            provider_event_id, provider_event_previous, synced_at)
        SELECT
            env, r.subscription_id, r.customer_id, r.status,
            pg_catalog.to_timestamp(r.current_period_start::double precision),
            pg_catalog.to_timestamp(r.current_period_end::double precision),
            r.cancel_at_period_end, pg_catalog.to_timestamp(r.cancel_at::double precision),
            pg_catalog.to_timestamp(r.canceled_at::double precision),
            pg_catalog.to_timestamp(r.trial_start::double precision),
            pg_catalog.to_timestamp(r.trial_end::double precision), r.pause_collection,
            r.latest_invoice_id, r.metadata, r.subject_type, r.subject_id, r.currency, r.mrr,
            r.renewal_amount, coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_subscriptions'::text) AS r(
            subscription_id text, customer_id text, status text, current_period_start bigint,
            current_period_end bigint, cancel_at_period_end boolean, cancel_at bigint,
            canceled_at bigint, trial_start bigint, trial_end bigint, pause_collection jsonb,
            latest_invoice_id text, metadata jsonb, subject_type text, subject_id text, currency
            text, mrr bigint, renewal_amount bigint, raw integer, provider_event_at bigint,
            provider_event_rank smallint, provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (environment, subscription_id) DO UPDATE SET
            customer_id = EXCLUDED.customer_id,
            status = EXCLUDED.status,
            current_period_start = EXCLUDED.current_period_start,
            current_period_end = EXCLUDED.current_period_end,
            cancel_at_period_end = EXCLUDED.cancel_at_period_end,
            cancel_at = EXCLUDED.cancel_at,
            canceled_at = EXCLUDED.canceled_at,
            trial_start = EXCLUDED.trial_start,
            trial_end = EXCLUDED.trial_end,
            pause_collection = EXCLUDED.pause_collection,
            latest_invoice_id = EXCLUDED.latest_invoice_id,
            metadata = EXCLUDED.metadata,
            subject_type = EXCLUDED.subject_type,
            subject_id = EXCLUDED.subject_id,
            currency = EXCLUDED.currency,
            mrr = EXCLUDED.mrr,
            renewal_amount = EXCLUDED.renewal_amount,
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw AND old.currency IS NOT DISTINCT FROM EXCLUDED.currency AND old.mrr IS NOT DISTINCT FROM EXCLUDED.mrr AND old.renewal_amount IS NOT DISTINCT FROM EXCLUDED.renewal_amount);
    END IF;
    IF rows ? 'stripe_subscription_items'::text THEN
        INSERT INTO :payments.stripe_subscription_items AS old (
            environment, subscription_item_id, subscription_id, product_id, price_id, quantity,
            metadata, raw)
        SELECT
            env, r.subscription_item_id, r.subscription_id, r.product_id, r.price_id,
            r.quantity, r.metadata, r.raw
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_subscription_items'::text) AS r(
            subscription_item_id text, subscription_id text, product_id text, price_id text,
            quantity bigint, metadata jsonb, raw jsonb)
        ON CONFLICT (environment, subscription_item_id) DO UPDATE SET
            subscription_id = EXCLUDED.subscription_id,
            product_id = EXCLUDED.product_id,
            price_id = EXCLUDED.price_id,
            quantity = EXCLUDED.quantity,
            metadata = EXCLUDED.metadata,
            raw = EXCLUDED.raw
        WHERE NOT (old.raw = EXCLUDED.raw AND old.subscription_id = EXCLUDED.subscription_id);
    END IF;
    IF rows ? 'stripe_invoices'::text THEN
        INSERT INTO :payments.stripe_invoices AS old (
            environment, invoice_id, customer_id, subscription_id, number, status,
            billing_reason, collection_method, amount_due, amount_paid, amount_remaining, total,
            currency, period_start, period_end, due_date, next_payment_attempt,
            hosted_invoice_url, invoice_pdf, metadata, provider_created_at, subject_type,
            subject_id, raw, provider_event_at, provider_event_rank, provider_event_id,
            provider_event_previous, synced_at)
        SELECT
            env, r.invoice_id, r.customer_id, r.subscription_id, r.number, r.status,
            r.billing_reason, r.collection_method, r.amount_due, r.amount_paid,
            r.amount_remaining, r.total, r.currency,
            pg_catalog.to_timestamp(r.period_start::double precision),
            pg_catalog.to_timestamp(r.period_end::double precision),
            pg_catalog.to_timestamp(r.due_date::double precision),
            pg_catalog.to_timestamp(r.next_payment_attempt::double precision),
            r.hosted_invoice_url, r.invoice_pdf, r.metadata,
            pg_catalog.to_timestamp(r.provider_created_at::double precision), r.subject_type,
            r.subject_id, coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_invoices'::text) AS r(
            invoice_id text, customer_id text, subscription_id text, number text, status text,
            billing_reason text, collection_method text, amount_due bigint, amount_paid bigint,
            amount_remaining bigint, total bigint, currency text, period_start bigint,
            period_end bigint, due_date bigint, next_payment_attempt bigint, hosted_invoice_url
            text, invoice_pdf text, metadata jsonb, provider_created_at bigint, subject_type
            text, subject_id text, raw integer, provider_event_at bigint, provider_event_rank
            smallint, provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (environment, invoice_id) DO UPDATE SET
            customer_id = EXCLUDED.customer_id,
            subscription_id = EXCLUDED.subscription_id,
            number = EXCLUDED.number,
            status = EXCLUDED.status,
            billing_reason = EXCLUDED.billing_reason,
            collection_method = EXCLUDED.collection_method,
            amount_due = EXCLUDED.amount_due,
            amount_paid = EXCLUDED.amount_paid,
            amount_remaining = EXCLUDED.amount_remaining,
            total = EXCLUDED.total,
            currency = EXCLUDED.currency,
            period_start = EXCLUDED.period_start,
            period_end = EXCLUDED.period_end,
            due_date = EXCLUDED.due_date,
            next_payment_attempt = EXCLUDED.next_payment_attempt,
            hosted_invoice_url = EXCLUDED.hosted_invoice_url,
            invoice_pdf = EXCLUDED.invoice_pdf,
            metadata = EXCLUDED.metadata,
            provider_created_at = EXCLUDED.provider_created_at,
            subject_type = EXCLUDED.subject_type,
            subject_id = EXCLUDED.subject_id,
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'stripe_disputes'::text THEN
        INSERT INTO :payments.stripe_disputes AS old (
            environment, dispute_id, charge_id, payment_intent_id, amount, currency, reason,
            status, evidence_due_by, metadata, provider_created_at, raw, provider_event_at,
            provider_event_rank, provider_event_id, provider_event_previous, synced_at)
        SELECT
            env, r.dispute_id, r.charge_id, r.payment_intent_id, r.amount, r.currency, r.reason,
            r.status, pg_catalog.to_timestamp(r.evidence_due_by::double precision), r.metadata,
            pg_catalog.to_timestamp(r.provider_created_at::double precision),
            coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_disputes'::text) AS r(
            dispute_id text, charge_id text, payment_intent_id text, amount bigint, currency
            text, reason text, status text, evidence_due_by bigint, metadata jsonb,
            provider_created_at bigint, raw integer, provider_event_at bigint,
            provider_event_rank smallint, provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (environment, dispute_id) DO UPDATE SET
            charge_id = EXCLUDED.charge_id,
            payment_intent_id = EXCLUDED.payment_intent_id,
            amount = EXCLUDED.amount,
            currency = EXCLUDED.currency,
            reason = EXCLUDED.reason,
            status = EXCLUDED.status,
            evidence_due_by = EXCLUDED.evidence_due_by,
            metadata = EXCLUDED.metadata,
            provider_created_at = EXCLUDED.provider_created_at,
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'stripe_payment_methods'::text THEN
        INSERT INTO :payments.stripe_payment_methods AS old (
            environment, payment_method_id, customer_id, type, brand, last4, exp_month,
            exp_year, metadata, provider_created_at, subject_type, subject_id, raw,
            provider_event_at, provider_event_rank, provider_event_id, provider_event_previous,
            synced_at)
        SELECT
            env, r.payment_method_id, r.customer_id, r.type, r.brand, r.last4, r.exp_month,
            r.exp_year, r.metadata, pg_catalog.to_timestamp(r.provider_created_at::double
            precision), r.subject_type, r.subject_id, coalesce(documents[r.raw] #> object_path,
            '{}'::jsonb), pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_payment_methods'::text) AS r(
            payment_method_id text, customer_id text, type text, brand text, last4 text,
            exp_month integer, exp_year integer, metadata jsonb, provider_created_at bigint,
            subject_type text, subject_id text, raw integer, provider_event_at bigint,
            provider_event_rank smallint, provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (environment, payment_method_id) DO UPDATE SET
            customer_id = EXCLUDED.customer_id,
            type = EXCLUDED.type,
            brand = EXCLUDED.brand,
            last4 = EXCLUDED.last4,
            exp_month = EXCLUDED.exp_month,
            exp_year = EXCLUDED.exp_year,
            metadata = EXCLUDED.metadata,
            provider_created_at = EXCLUDED.provider_created_at,
            subject_type = EXCLUDED.subject_type,
            subject_id = EXCLUDED.subject_id,
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'stripe_meters'::text THEN
        INSERT INTO :payments.stripe_meters AS old (
            environment, meter_id, event_name, display_name, formula, status, customer_key,
            value_key, event_time_window, provider_created_at, raw, provider_event_at,
            provider_event_rank, provider_event_id, provider_event_previous, synced_at)
        SELECT
            env, r.meter_id, r.event_name, r.display_name, r.formula, r.status, r.customer_key,
            r.value_key, r.event_time_window,
            pg_catalog.to_timestamp(r.provider_created_at::double precision),
            coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_meters'::text) AS r(
            meter_id text, event_name text, display_name text, formula text, status text,
            customer_key text, value_key text, event_time_window text, provider_created_at
            bigint, raw integer, provider_event_at bigint, provider_event_rank smallint,
            provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (environment, meter_id) DO UPDATE SET
            event_name = EXCLUDED.event_name,
            display_name = EXCLUDED.display_name,
            formula = EXCLUDED.formula,
            status = EXCLUDED.status,
            customer_key = EXCLUDED.customer_key,
            value_key = EXCLUDED.value_key,
            event_time_window = EXCLUDED.event_time_window,
            provider_created_at = EXCLUDED.provider_created_at,
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'stripe_features'::text THEN
        INSERT INTO :payments.stripe_features AS old (
            environment, feature_id, lookup_key, name, active, metadata, raw, provider_event_at,
            provider_event_rank, provider_event_id, provider_event_previous, synced_at)
        SELECT
            env, r.feature_id, r.lookup_key, r.name, r.active, r.metadata,
            coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_features'::text) AS r(
            feature_id text, lookup_key text, name text, active boolean, metadata jsonb, raw
            integer, provider_event_at bigint, provider_event_rank smallint, provider_event_id
            text, provider_event_previous jsonb)
        ON CONFLICT (environment, feature_id) DO UPDATE SET
            lookup_key = EXCLUDED.lookup_key,
            name = EXCLUDED.name,
            active = EXCLUDED.active,
            metadata = EXCLUDED.metadata,
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'stripe_entitlement_summaries'::text THEN
        INSERT INTO :payments.stripe_entitlement_summaries AS old (
            environment, customer_id, raw, provider_event_at, provider_event_rank,
            provider_event_id, provider_event_previous, synced_at)
        SELECT
            env, r.customer_id, coalesce(documents[r.raw] #> object_path, '{}'::jsonb),
            pg_catalog.to_timestamp(r.provider_event_at::double precision),
            r.provider_event_rank, r.provider_event_id, r.provider_event_previous,
            pg_catalog.now()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_entitlement_summaries'::text) AS r(
            customer_id text, raw integer, provider_event_at bigint, provider_event_rank
            smallint, provider_event_id text, provider_event_previous jsonb)
        ON CONFLICT (environment, customer_id) DO UPDATE SET
            raw = EXCLUDED.raw,
            provider_event_at = EXCLUDED.provider_event_at,
            provider_event_rank = EXCLUDED.provider_event_rank,
            provider_event_id = EXCLUDED.provider_event_id,
            provider_event_previous = EXCLUDED.provider_event_previous,
            synced_at = EXCLUDED.synced_at
        WHERE NOT (old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL AND old.raw = EXCLUDED.raw);
    END IF;
    IF rows ? 'stripe_active_entitlements'::text THEN
        INSERT INTO :payments.stripe_active_entitlements AS old (
            environment, entitlement_id, customer_id, feature_id, lookup_key, raw)
        SELECT
            env, r.entitlement_id, r.customer_id, r.feature_id, r.lookup_key, r.raw
        FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_active_entitlements'::text) AS r(
            entitlement_id text, customer_id text, feature_id text, lookup_key text, raw jsonb)
        ON CONFLICT (environment, entitlement_id) DO UPDATE SET
            customer_id = EXCLUDED.customer_id,
            feature_id = EXCLUDED.feature_id,
            lookup_key = EXCLUDED.lookup_key,
            raw = EXCLUDED.raw
        WHERE NOT (old.raw = EXCLUDED.raw AND old.customer_id = EXCLUDED.customer_id);
    END IF;
    IF rows ? 'tombstones'::text THEN
        INSERT INTO :billhook.tombstones AS old (
            environment, object_type, object_id, deleted_at, outside_ledger)
        SELECT
            env, r.object_type, r.object_id, pg_catalog.to_timestamp(r.deleted_at::double
            precision), r.outside_ledger
        FROM pg_catalog.jsonb_to_recordset(rows -> 'tombstones'::text) AS r(
            object_type text, object_id text, deleted_at bigint, outside_ledger boolean)
        ON CONFLICT (environment, object_type, object_id) DO UPDATE SET
            deleted_at = greatest(old.deleted_at, EXCLUDED.deleted_at),
            outside_ledger = old.outside_ledger OR EXCLUDED.outside_ledger;
    END IF;
    IF rows ? 'ties'::text THEN
        INSERT INTO :billhook.ties AS old (
            environment, object_type, object_id, event_id)
        SELECT
            env, r.object_type, r.object_id, r.event_id
        FROM pg_catalog.jsonb_to_recordset(rows -> 'ties'::text) AS r(
            object_type text, object_id text, event_id text)
        ON CONFLICT (environment, object_type, object_id) DO UPDATE SET
            event_id = EXCLUDED.event_id;
    END IF;
    IF rows ? 'customer_claims'::text THEN
        INSERT INTO :billhook.customer_claims AS old (
            environment, customer_id, kind, subject_type, subject_id, ref, claimed_at,
            outside_ledger)
        SELECT
            env, r.customer_id, r.kind, r.subject_type, r.subject_id, r.ref,
            pg_catalog.to_timestamp(r.claimed_at::double precision), r.outside_ledger
        FROM pg_catalog.jsonb_to_recordset(rows -> 'customer_claims'::text) AS r(
            customer_id text, kind text, subject_type text, subject_id text, ref text,
            claimed_at bigint, outside_ledger boolean)
        ON CONFLICT (environment, customer_id, kind, subject_type, subject_id, ref) DO UPDATE SET
            claimed_at = EXCLUDED.claimed_at,
            outside_ledger = EXCLUDED.outside_ledger;
    END IF;
    IF rows ? 'customer_mappings'::text THEN
        INSERT INTO :payments.customer_mappings AS old (
            provider, environment, provider_customer_id, subject_type, subject_id)
        SELECT
            'stripe', env, r.provider_customer_id, r.subject_type, r.subject_id
        FROM pg_catalog.jsonb_to_recordset(rows -> 'customer_mappings'::text) AS r(
            provider_customer_id text, subject_type text, subject_id text)
        ON CONFLICT (provider, environment, provider_customer_id) DO UPDATE SET
            subject_type = EXCLUDED.subject_type,
            subject_id = EXCLUDED.subject_id;
    END IF;
    IF rows ? 'payment_refs'::text THEN
        INSERT INTO :billhook.payment_refs AS old (
            environment, object_type, object_id, payment_id)
        SELECT
            env, r.object_type, r.object_id, r.payment_id
        FROM pg_catalog.jsonb_to_recordset(rows -> 'payment_refs'::text) AS r(
            object_type text, object_id text, payment_id bigint)
        ON CONFLICT (environment, object_type, object_id) DO UPDATE SET
            payment_id = EXCLUDED.payment_id;
    END IF;
    IF rows ? 'payment_sources'::text THEN
        INSERT INTO :billhook.payment_sources AS old (
            environment, object_type, object_id, outcome, payment_id, version_at,
            version_event_id, place, type, subject_type, subject_id, customer_id, email, amount,
            full_amount, currency, presentment_amount, presentment_currency, out_of_band,
            description, happened_at, provider_created_at, related)
        SELECT
            env, r.object_type, r.object_id, r.outcome, r.payment_id,
            pg_catalog.to_timestamp(r.version_at::double precision), r.version_event_id,
            r.place, r.type, r.subject_type, r.subject_id, r.customer_id, r.email, r.amount,
            r.full_amount, r.currency, r.presentment_amount, r.presentment_currency,
            r.out_of_band, r.description, pg_catalog.to_timestamp(r.happened_at::double
            precision), pg_catalog.to_timestamp(r.provider_created_at::double precision),
            r.related
        FROM pg_catalog.jsonb_to_recordset(rows -> 'payment_sources'::text) AS r(
            object_type text, object_id text, outcome text, payment_id bigint, version_at
            bigint, version_event_id text, place smallint, type text, subject_type text,
            subject_id text, customer_id text, email text, amount bigint, full_amount bigint,
            currency text, presentment_amount bigint, presentment_currency text, out_of_band
            boolean, description text, happened_at bigint, provider_created_at bigint, related
            jsonb)
        ON CONFLICT (environment, object_type, object_id, outcome) DO UPDATE SET
            payment_id = EXCLUDED.payment_id,
            version_at = EXCLUDED.version_at,
            version_event_id = EXCLUDED.version_event_id,
            place = EXCLUDED.place,
            type = EXCLUDED.type,
            subject_type = EXCLUDED.subject_type,
            subject_id = EXCLUDED.subject_id,
            customer_id = EXCLUDED.customer_id,
            email = EXCLUDED.email,
            amount = EXCLUDED.amount,
            full_amount = EXCLUDED.full_amount,
            currency = EXCLUDED.currency,
            presentment_amount = EXCLUDED.presentment_amount,
            presentment_currency = EXCLUDED.presentment_currency,
            out_of_band = EXCLUDED.out_of_band,
            description = EXCLUDED.description,
            happened_at = EXCLUDED.happened_at,
            provider_created_at = EXCLUDED.provider_created_at,
            related = EXCLUDED.related;
    END IF;
    IF rows ? 'payment_refunds'::text THEN
        INSERT INTO :billhook.payment_refunds AS old (
            environment, object_type, object_id, payment_id, version_at, version_rank,
            version_event_id, status, amount, currency, presentment_amount,
            presentment_currency, description, payment_intent_id, charge_id, provider_created_at)
        SELECT
            env, r.object_type, r.object_id, r.payment_id,
            pg_catalog.to_timestamp(r.version_at::double precision), r.version_rank,
            r.version_event_id, r.status, r.amount, r.currency, r.presentment_amount,
            r.presentment_currency, r.description, r.payment_intent_id, r.charge_id,
            pg_catalog.to_timestamp(r.provider_created_at::double precision)
        FROM pg_catalog.jsonb_to_recordset(rows -> 'payment_refunds'::text) AS r(
            object_type text, object_id text, payment_id bigint, version_at bigint, version_rank
            smallint, version_event_id text, status text, amount bigint, currency text,
            presentment_amount bigint, presentment_currency text, description text,
            payment_intent_id text, charge_id text, provider_created_at bigint)
        ON CONFLICT (environment, object_type, object_id) DO UPDATE SET
            payment_id = EXCLUDED.payment_id,
            version_at = EXCLUDED.version_at,
            version_rank = EXCLUDED.version_rank,
            version_event_id = EXCLUDED.version_event_id,
            status = EXCLUDED.status,
            amount = EXCLUDED.amount,
            currency = EXCLUDED.currency,
            presentment_amount = EXCLUDED.presentment_amount,
            presentment_currency = EXCLUDED.presentment_currency,
            description = EXCLUDED.description,
            payment_intent_id = EXCLUDED.payment_intent_id,
            charge_id = EXCLUDED.charge_id,
            provider_created_at = EXCLUDED.provider_created_at;
    END IF;
    IF rows ? 'transactions'::text THEN
        INSERT INTO :payments.transactions AS old (
            id, type, status, subject_type, subject_id, provider_customer_id,
            customer_email_snapshot, provider_object_type, provider_object_id,
            provider_parent_object_type, provider_parent_object_id, related_object_ids, amount,
            amount_refunded, amount_out_of_band, amount_disputed, amount_lost, currency,
            description, paid_at, failed_at, refunded_at, canceled_at, provider_created_at,
            dispute_status, dispute_reason, dispute_due_by, disputed_at, raw, payment_id,
            provider, environment)
        SELECT
            r.id, r.type, r.status, r.subject_type, r.subject_id, r.provider_customer_id,
            r.customer_email_snapshot, r.provider_object_type, r.provider_object_id,
            r.provider_parent_object_type, r.provider_parent_object_id, r.related_object_ids,
            r.amount, r.amount_refunded, r.amount_out_of_band, r.amount_disputed, r.amount_lost,
            r.currency, r.description, pg_catalog.to_timestamp(r.paid_at::double precision),
            pg_catalog.to_timestamp(r.failed_at::double precision),
            pg_catalog.to_timestamp(r.refunded_at::double precision),
            pg_catalog.to_timestamp(r.canceled_at::double precision),
            pg_catalog.to_timestamp(r.provider_created_at::double precision), r.dispute_status,
            r.dispute_reason, pg_catalog.to_timestamp(r.dispute_due_by::double precision),
            pg_catalog.to_timestamp(r.disputed_at::double precision), coalesce(documents[r.raw]
            #> object_path, '{}'::jsonb), r.payment_id, 'stripe', env
        FROM pg_catalog.jsonb_to_recordset(rows -> 'transactions'::text) AS r(
            id uuid, type text, status text, subject_type text, subject_id text,
            provider_customer_id text, customer_email_snapshot text, provider_object_type text,
            provider_object_id text, provider_parent_object_type text, provider_parent_object_id
            text, related_object_ids jsonb, amount bigint, amount_refunded bigint,
            amount_out_of_band bigint, amount_disputed bigint, amount_lost bigint, currency
            text, description text, paid_at bigint, failed_at bigint, refunded_at bigint,
            canceled_at bigint, provider_created_at bigint, dispute_status text, dispute_reason
            text, dispute_due_by bigint, disputed_at bigint, raw integer, payment_id bigint)
        ON CONFLICT (id) DO UPDATE SET
            type = EXCLUDED.type,
            status = EXCLUDED.status,
            subject_type = EXCLUDED.subject_type,
            subject_id = EXCLUDED.subject_id,
            provider_customer_id = EXCLUDED.provider_customer_id,
            customer_email_snapshot = EXCLUDED.customer_email_snapshot,
            provider_object_type = EXCLUDED.provider_object_type,
            provider_object_id = EXCLUDED.provider_object_id,
            provider_parent_object_type = EXCLUDED.provider_parent_object_type,
            provider_parent_object_id = EXCLUDED.provider_parent_object_id,
            related_object_ids = EXCLUDED.related_object_ids,
            amount = EXCLUDED.amount,
            amount_refunded = EXCLUDED.amount_refunded,
            amount_out_of_band = EXCLUDED.amount_out_of_band,
            amount_disputed = EXCLUDED.amount_disputed,
            amount_lost = EXCLUDED.amount_lost,
            currency = EXCLUDED.currency,
            description = EXCLUDED.description,
            paid_at = EXCLUDED.paid_at,
            failed_at = EXCLUDED.failed_at,
            refunded_at = EXCLUDED.refunded_at,
            canceled_at = EXCLUDED.canceled_at,
            provider_created_at = EXCLUDED.provider_created_at,
            dispute_status = EXCLUDED.dispute_status,
            dispute_reason = EXCLUDED.dispute_reason,
            dispute_due_by = EXCLUDED.dispute_due_by,
            disputed_at = EXCLUDED.disputed_at,
            raw = CASE WHEN EXCLUDED.raw = '{}'::jsonb THEN old.raw ELSE EXCLUDED.raw END,
            payment_id = EXCLUDED.payment_id;
    END IF;
    IF rows ? 'subscription_states'::text THEN
        INSERT INTO :billhook.subscription_states AS old (
            environment, subscription_id, at, rank, event_id, customer_id, currency,
            period_amount, gross, discounts, before, had, had_from, had_to)
        SELECT
            env, r.subscription_id, pg_catalog.to_timestamp(r.at::double precision), r.rank,
            r.event_id, r.customer_id, r.currency, r.period_amount, r.gross, r.discounts,
            r.before, r.had, pg_catalog.to_timestamp(r.had_from::double precision),
            pg_catalog.to_timestamp(r.had_to::double precision)
        FROM pg_catalog.jsonb_to_recordset(rows -> 'subscription_states'::text) AS r(
            subscription_id text, at bigint, rank smallint, event_id text, customer_id text,
            currency text, period_amount bigint, gross bigint, discounts jsonb, before text, had
            bigint, had_from bigint, had_to bigint)
        ON CONFLICT (environment, subscription_id, at, rank, event_id) DO UPDATE SET
            customer_id = EXCLUDED.customer_id,
            currency = EXCLUDED.currency,
            period_amount = EXCLUDED.period_amount,
            gross = EXCLUDED.gross,
            discounts = EXCLUDED.discounts,
            before = EXCLUDED.before,
            had = EXCLUDED.had,
            had_from = EXCLUDED.had_from,
            had_to = EXCLUDED.had_to;
    END IF;
    IF rows ? 'discounts'::text THEN
        INSERT INTO :billhook.discounts AS old (
            environment, discount_id, percent_off, amount_off, currency, forever)
        SELECT
            env, r.discount_id, r.percent_off, r.amount_off, r.currency, r.forever
        FROM pg_catalog.jsonb_to_recordset(rows -> 'discounts'::text) AS r(
            discount_id text, percent_off text, amount_off bigint, currency text, forever
            boolean)
        ON CONFLICT (environment, discount_id) DO UPDATE SET
            percent_off = EXCLUDED.percent_off,
            amount_off = EXCLUDED.amount_off,
            currency = EXCLUDED.currency,
            forever = EXCLUDED.forever;
    END IF;
    IF rows ? 'mrr_movements'::text THEN
        INSERT INTO :payments.mrr_movements AS old (
            id, customer_id, currency, day, kind, amount, mrr, latest, environment)
        SELECT
            r.id, r.customer_id, r.currency, r.day, r.kind, r.amount, r.mrr, r.latest, env
        FROM pg_catalog.jsonb_to_recordset(rows -> 'mrr_movements'::text) AS r(
            id uuid, customer_id text, currency text, day date, kind text, amount bigint, mrr
            bigint, latest boolean)
        ON CONFLICT (id) DO UPDATE SET
            customer_id = EXCLUDED.customer_id,
            currency = EXCLUDED.currency,
            day = EXCLUDED.day,
            kind = EXCLUDED.kind,
            amount = EXCLUDED.amount,
            mrr = EXCLUDED.mrr,
            latest = EXCLUDED.latest;
    END IF;
    IF rows ? 'refreshes'::text THEN
        INSERT INTO :billhook.refreshes AS old (
            environment, object_type, object_id, reason, next_at, marked_at)
        SELECT
            env, r.object_type, r.object_id, r.reason, pg_catalog.now() +
            pg_catalog.make_interval(secs => r.next_at), pg_catalog.clock_timestamp()
        FROM pg_catalog.jsonb_to_recordset(rows -> 'refreshes'::text) AS r(
            object_type text, object_id text, reason text, next_at double precision)
        ON CONFLICT (environment, object_type, object_id) DO UPDATE SET
            reason = old.reason,
            next_at = least(old.next_at, EXCLUDED.next_at),
            marked_at = EXCLUDED.marked_at;
    END IF;
    IF rows ? 'customers_marked'::text THEN
        INSERT INTO :payments.customers AS old (provider, environment, provider_customer_id, deleted, raw)
        SELECT 'stripe', env, k.id, true, pg_catalog.jsonb_build_object('id'::text, k.id)
        FROM pg_catalog.jsonb_array_elements_text(rows -> 'customers_marked'::text) AS k(id)
        ON CONFLICT (provider, environment, provider_customer_id) DO UPDATE SET
            deleted = true, synced_at = pg_catalog.now()
        WHERE NOT old.deleted;
    END IF;
    IF rows ? 'stripe_subscriptions_subjects'::text THEN
        FOR changed IN SELECT * FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_subscriptions_subjects'::text) AS r(
            id text, subject_type text, subject_id text)
        LOOP
            UPDATE :payments.stripe_subscriptions old SET
                subject_type = changed.subject_type,
                subject_id = changed.subject_id
            WHERE old.environment = env AND old.subscription_id = changed.id;
        END LOOP;
    END IF;
    IF rows ? 'stripe_invoices_subjects'::text THEN
        FOR changed IN SELECT * FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_invoices_subjects'::text) AS r(
            id text, subject_type text, subject_id text)
        LOOP
            UPDATE :payments.stripe_invoices old SET
                subject_type = changed.subject_type,
                subject_id = changed.subject_id
            WHERE old.environment = env AND old.invoice_id = changed.id;
        END LOOP;
    END IF;
    IF rows ? 'stripe_payment_methods_subjects'::text THEN
        FOR changed IN SELECT * FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_payment_methods_subjects'::text) AS r(
            id text, subject_type text, subject_id text)
        LOOP
            UPDATE :payments.stripe_payment_methods old SET
                subject_type = changed.subject_type,
                subject_id = changed.subject_id
            WHERE old.environment = env AND old.payment_method_id = changed.id;
        END LOOP;
    END IF;
    IF rows ? 'stripe_checkout_sessions'::text THEN
        FOR changed IN SELECT * FROM pg_catalog.jsonb_to_recordset(rows -> 'stripe_checkout_sessions'::text) AS r(
            id uuid, newer boolean, status text, raw integer, provider_event_at bigint,
            provider_event_rank smallint, provider_event_id text, payment_status text,
            customer_id text, payment_intent_id text, subscription_id text, checkout_session_id
            text, url text)
        LOOP
            UPDATE :payments.stripe_checkout_sessions old SET
                status = CASE WHEN changed.newer THEN changed.status ELSE old.status END,
                raw = CASE WHEN changed.newer THEN coalesce(documents[changed.raw] #> object_path, '{}'::jsonb) ELSE old.raw END,
                provider_event_at = CASE WHEN changed.newer THEN pg_catalog.to_timestamp(changed.provider_event_at::double precision) ELSE old.provider_event_at END,
                provider_event_rank = CASE WHEN changed.newer THEN changed.provider_event_rank ELSE old.provider_event_rank END,
                provider_event_id = CASE WHEN changed.newer THEN changed.provider_event_id ELSE old.provider_event_id END,
                payment_status = CASE WHEN changed.newer THEN coalesce(changed.payment_status, old.payment_status)
                    ELSE coalesce(old.payment_status, changed.payment_status) END,
                customer_id = CASE WHEN changed.newer THEN coalesce(changed.customer_id, old.customer_id)
                    ELSE coalesce(old.customer_id, changed.customer_id) END,
                payment_intent_id = CASE WHEN changed.newer THEN coalesce(changed.payment_intent_id, old.payment_intent_id)
                    ELSE coalesce(old.payment_intent_id, changed.payment_intent_id) END,
                subscription_id = CASE WHEN changed.newer THEN coalesce(changed.subscription_id, old.subscription_id)
                    ELSE coalesce(old.subscription_id, changed.subscription_id) END,
                checkout_session_id = coalesce(changed.checkout_session_id, old.checkout_session_id),
                url = coalesce(changed.url, old.url),
                last_error = NULL
            WHERE old.id = changed.id;
        END LOOP;
    END IF;
END $$;
