-- `updated_at` of every row in `payments`.

CREATE OR REPLACE FUNCTION billhook.touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY[
        'provider_connections', 'stripe_products', 'stripe_prices', 'customers', 'customer_mappings',
        'stripe_checkout_sessions', 'stripe_customer_portal_sessions', 'stripe_subscriptions',
        'stripe_subscription_items', 'webhook_events', 'transactions'
    ] LOOP
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER billhook_touch_updated_at BEFORE UPDATE ON payments.%I
            FOR EACH ROW EXECUTE FUNCTION billhook.touch_updated_at()', tab);
    END LOOP;
END $$;
