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
        'payments.provider_connections', 'payments.customer_mappings', 'payments.stripe_checkout_sessions',
        'payments.stripe_customer_portal_sessions', 'payments.webhook_events', 'payments.transactions', 'payments.access_settings',
        :mirrored_tables
    ] LOOP
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER billhook_touch_updated_at BEFORE UPDATE ON %s
            FOR EACH ROW EXECUTE FUNCTION billhook.touch_updated_at()', tab);
    END LOOP;
END $$;
