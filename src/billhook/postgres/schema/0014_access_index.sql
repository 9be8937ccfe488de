-- Who has access (functions/access.sql): subscriptions by subject and status, and the open invoices
-- of a subscription. They take the place of two indexes without the status.
--
-- A B-tree entry holds 2,704 bytes, and a subject's id may have 500 characters of four bytes, so the
-- subject's type is not in the index.
CREATE INDEX CONCURRENTLY IF NOT EXISTS subscriptions_by_subject
    ON payments.stripe_subscriptions (environment, subject_id, status)
    WHERE subject_type IS NOT NULL AND subject_id IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_invoices_by_subscription_and_status
    ON payments.stripe_invoices (environment, subscription_id, status)
    WHERE subscription_id IS NOT NULL;
