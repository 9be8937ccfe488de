-- The change of a subscription that a user asks Billhook for, while Billhook checks whether they may:
-- the request's fields, and `operation` (preview, change, cancel, resume or pause). Null otherwise.
-- For UPDATE policies on payments.stripe_subscriptions.
CREATE OR REPLACE FUNCTION payments.requested_change() RETURNS jsonb LANGUAGE sql STABLE
    RETURN nullif(pg_catalog.current_setting('billhook.requested_change', true), '')::jsonb;
GRANT EXECUTE ON FUNCTION payments.requested_change() TO PUBLIC;
