-- The dashboard's search: any value of the app's metadata, such as an order id, and the number of
-- an invoice. Billhook's own keys are left out: their values are those of many rows. `silent`:
-- metadata that is no object has no values.

CREATE INDEX stripe_checkout_sessions_by_metadata ON payments.stripe_checkout_sessions USING gin (
    pg_catalog.jsonb_path_query_array(metadata,
        '$.keyvalue() ? (!(@.key starts with "insforge_")).value', '{}', true) jsonb_path_ops)
    WHERE metadata <> '{}';
CREATE INDEX customers_by_metadata ON payments.customers USING gin (
    pg_catalog.jsonb_path_query_array(metadata,
        '$.keyvalue() ? (!(@.key starts with "insforge_")).value', '{}', true) jsonb_path_ops)
    WHERE metadata <> '{}';
CREATE INDEX stripe_subscriptions_by_metadata ON payments.stripe_subscriptions USING gin (
    pg_catalog.jsonb_path_query_array(metadata,
        '$.keyvalue() ? (!(@.key starts with "insforge_")).value', '{}', true) jsonb_path_ops)
    WHERE metadata <> '{}';
CREATE INDEX transactions_by_metadata ON payments.transactions USING gin (
    pg_catalog.jsonb_path_query_array(raw -> 'metadata',
        '$.keyvalue() ? (!(@.key starts with "insforge_")).value', '{}', true) jsonb_path_ops)
    WHERE type <> 'refund' AND raw -> 'metadata' <> '{}';

CREATE INDEX stripe_invoices_by_number
    ON payments.stripe_invoices (environment, (upper(left(number, 200))))
    WHERE number IS NOT NULL;
