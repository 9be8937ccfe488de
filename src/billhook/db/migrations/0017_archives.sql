-- The columns of the tables whose rows belong to an account that are ours. The app may add others to
-- them: a rebuild neither compares nor touches those. A migration that adds a column adds it here.
CREATE TABLE billhook.own_columns (
    relation text NOT NULL,
    name     text NOT NULL,
    PRIMARY KEY (relation, name)
);
INSERT INTO billhook.own_columns (relation, name)
SELECT relation, regexp_split_to_table(names, '\s+') FROM (VALUES
    ('payments.stripe_products',
        'id environment product_id name description active default_price_id metadata synced_at
         raw created_at updated_at provider_event_at provider_event_rank provider_event_id
         provider_event_previous'),
    ('payments.stripe_prices',
        'id environment price_id product_id active currency unit_amount unit_amount_decimal type
         lookup_key billing_scheme tax_behavior recurring_interval recurring_interval_count
         metadata synced_at raw created_at updated_at provider_event_at provider_event_rank
         provider_event_id provider_event_previous'),
    ('payments.customers',
        'id provider environment email name phone deleted metadata synced_at provider_customer_id
         provider_created_at raw created_at updated_at provider_event_at provider_event_rank
         provider_event_id provider_event_previous'),
    ('payments.customer_mappings',
        'id provider environment subject_type subject_id provider_customer_id created_at
         updated_at'),
    ('payments.stripe_checkout_sessions',
        'id environment mode status payment_status subject_type subject_id customer_email
         line_items success_url cancel_url idempotency_key metadata checkout_session_id
         customer_id payment_intent_id subscription_id url last_error request_hash raw created_at
         updated_at provider_event_at provider_event_rank provider_event_id
         provider_event_previous'),
    ('payments.stripe_customer_portal_sessions',
        'id environment status subject_type subject_id customer_id return_url configuration_id
         url last_error raw created_at updated_at'),
    ('payments.stripe_subscriptions',
        'id environment subscription_id customer_id subject_type subject_id status
         current_period_start current_period_end cancel_at_period_end cancel_at canceled_at
         trial_start trial_end latest_invoice_id metadata synced_at raw created_at updated_at
         provider_event_at provider_event_rank provider_event_id provider_event_previous'),
    ('payments.stripe_subscription_items',
        'id environment subscription_item_id subscription_id product_id price_id quantity
         metadata raw created_at updated_at'),
    ('payments.transactions',
        'id provider environment type status subject_type subject_id provider_customer_id
         customer_email_snapshot provider_object_type provider_object_id
         provider_parent_object_type provider_parent_object_id related_object_ids amount
         amount_refunded currency description paid_at failed_at refunded_at provider_created_at
         raw created_at updated_at payment_id'),
    ('billhook.customer_claims',
        'environment customer_id subject_type subject_id kind ref claimed_at outside_ledger'),
    ('billhook.payment_refs',
        'environment object_type object_id payment_id'),
    ('billhook.payment_sources',
        'environment object_type object_id outcome payment_id version_at version_event_id type
         subject_type subject_id customer_id email amount currency description happened_at
         provider_created_at related'),
    ('billhook.payment_refunds',
        'environment object_type object_id payment_id version_at version_rank version_event_id
         status amount currency description charge_id provider_created_at'),
    ('billhook.fetched_payments',
        'environment event_type object_id told_at object'),
    ('billhook.tombstones',
        'environment object_type object_id deleted_at outside_ledger'),
    ('billhook.refreshes',
        'environment object_type object_id reason marked_at attempts next_at'),
    ('billhook.ties',
        'environment object_type object_id event_id'),
    ('billhook.event_retries',
        'environment event_id attempts next_at')
) AS known (relation, names);

-- Insert the rows of one table that an archive holds. Columns that the app added come back with
-- their values; what is generated is computed, and what is new since then has its default.
CREATE FUNCTION billhook.bring_back(archive uuid, to_table regclass, on_conflict text DEFAULT '')
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    names text;
    values text;
    brought bigint := 0;
BEGIN
    -- All of an archive were put away at one moment, with the same columns.
    SELECT string_agg(quote_ident(a.attname), ', '), string_agg(format('r.%I', a.attname), ', ')
    INTO names, values
    FROM pg_attribute a, (
        SELECT content FROM billhook.archived_rows
        WHERE archive_id = archive AND relation = to_table::text LIMIT 1) AS one
    WHERE a.attrelid = to_table AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND one.content ? a.attname::text;
    IF names IS NOT NULL THEN
        EXECUTE format(
            'INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE
             SELECT %3$s FROM billhook.archived_rows kept, jsonb_populate_record(NULL::%1$s, kept.content) r
             WHERE kept.archive_id = $1 AND kept.relation = $2 %4$s',
            to_table, names, values, on_conflict)
        USING archive, to_table::text;
        GET DIAGNOSTICS brought = ROW_COUNT;
    END IF;
    RETURN brought;
END $$;

-- Bring an archive's rows back; what stands in their place is archived first. Rows that the app
-- hung onto ours by a foreign key must be gone or deferred, as with any deletion.
--
-- Where the archive is of the account that is connected, it is pulled as before, and rows that came
-- since and have no equal in the archive stay as they are. What was told of the others, and what rows
-- follow from (claims, and what is known of payments), billhook/archives.py tells again.
CREATE OR REPLACE FUNCTION billhook.restore(wanted uuid, account_now text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    found billhook.archives;
    present uuid;
    relation regclass;
    moved bigint := 0;
    pull billhook.pulls;
BEGIN
    UPDATE billhook.archives SET restored_at = now()
    WHERE id = wanted AND restored_at IS NULL RETURNING * INTO found;
    IF found.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT * INTO pull FROM billhook.pulls WHERE environment = found.environment;
    present := billhook.archive(found.environment, account_now);
    FOREACH relation IN ARRAY billhook.account_tables() LOOP
        moved := moved + billhook.bring_back(wanted, relation);
    END LOOP;
    DELETE FROM billhook.archived_rows WHERE archive_id = wanted;

    IF found.account_id = account_now THEN
        INSERT INTO billhook.pulls SELECT pull.* WHERE pull.environment IS NOT NULL;
        FOREACH relation IN ARRAY ARRAY[
            'payments.stripe_products', 'payments.stripe_prices', 'payments.customers',
            'payments.stripe_checkout_sessions', 'payments.stripe_customer_portal_sessions',
            'payments.stripe_subscriptions', 'payments.stripe_subscription_items',
            'payments.transactions', 'billhook.payment_refs', 'billhook.event_retries']::regclass[]
        LOOP
            PERFORM billhook.bring_back(present, relation, 'ON CONFLICT DO NOTHING');
        END LOOP;
        PERFORM billhook.bring_back(present, 'billhook.fetched_payments',
            'ON CONFLICT (environment, event_type, object_id) DO UPDATE SET
                told_at = EXCLUDED.told_at, object = EXCLUDED.object');
    END IF;
    RETURN moved;
END $$;
