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
