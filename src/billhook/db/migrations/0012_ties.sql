-- Whose state an object shows since it met another of the same second and kind. A third one of that
-- second may lead back to where the first began, and then previous_attributes deceive: A to B, B to
-- C, C to A look as if the first came after the third.
CREATE TABLE billhook.ties (
    environment text NOT NULL CHECK (environment IN ('test', 'live')),
    object_type text NOT NULL,
    object_id   text NOT NULL,
    event_id    text NOT NULL,  -- empty: what was fetched
    PRIMARY KEY (environment, object_type, object_id)
);

-- Two states of one object from the same second and of the same kind: does the new one win?
-- previous_attributes decide; where they don't, what was fetched shows before what an event said,
-- and of two events the greater id. Where they don't, and where the two are not the only ones of
-- their second, the object is marked, so that Stripe is asked.
CREATE OR REPLACE FUNCTION billhook.wins_tie(
    environment text, object_type text, object_id text,
    old_event_id text, old_previous jsonb, old_state jsonb,
    new_event_id text, new_previous jsonb, new_state jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    new_is_later boolean := coalesce(billhook.was_before(old_state, new_previous), false);
    old_is_later boolean := coalesce(billhook.was_before(new_state, old_previous), false);
    wins boolean;
    third boolean;
BEGIN
    IF new_event_id = old_event_id THEN
        RETURN false;
    END IF;
    wins := CASE WHEN new_is_later <> old_is_later THEN new_is_later
                 WHEN new_event_id IS NULL THEN true
                 WHEN old_event_id IS NULL THEN false
                 ELSE new_event_id > old_event_id END;
    third := EXISTS (
        SELECT FROM billhook.ties t
        WHERE t.environment = wins_tie.environment AND t.object_type = wins_tie.object_type
          AND t.object_id = wins_tie.object_id AND t.event_id = coalesce(old_event_id, ''));
    INSERT INTO billhook.ties (environment, object_type, object_id, event_id)
    VALUES (environment, object_type, object_id,
        coalesce(CASE WHEN wins THEN new_event_id ELSE old_event_id END, ''))
    ON CONFLICT ON CONSTRAINT ties_pkey DO UPDATE SET event_id = EXCLUDED.event_id;
    IF (third OR new_is_later = old_is_later) AND old_state IS DISTINCT FROM new_state THEN
        INSERT INTO billhook.refreshes (environment, object_type, object_id, reason)
        VALUES (environment, object_type, object_id, 'several changes in one second')
        ON CONFLICT ON CONSTRAINT refreshes_pkey
        DO UPDATE SET marked_at = clock_timestamp(), next_at = now();
    END IF;
    RETURN wins;
END $$;

-- As in 0009_administration.sql, and the ties.
CREATE OR REPLACE FUNCTION billhook.account_tables() RETURNS regclass[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY[
        'payments.stripe_products', 'payments.stripe_prices', 'payments.customers',
        'payments.customer_mappings', 'payments.stripe_checkout_sessions',
        'payments.stripe_customer_portal_sessions', 'payments.stripe_subscriptions',
        'payments.stripe_subscription_items', 'payments.transactions',
        'billhook.customer_claims', 'billhook.payment_refs', 'billhook.payment_sources',
        'billhook.payment_refunds', 'billhook.fetched_payments', 'billhook.tombstones',
        'billhook.refreshes', 'billhook.ties', 'billhook.event_retries']::regclass[]
$$;
