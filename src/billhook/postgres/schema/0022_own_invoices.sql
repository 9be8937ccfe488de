-- Users read invoices and payment methods of their own, and change payment methods. The app's policies
-- decide which are theirs.

ALTER TABLE payments.stripe_payment_methods
    ADD COLUMN subject_type text,
    ADD COLUMN subject_id   text;
CREATE INDEX stripe_payment_methods_by_subject
    ON payments.stripe_payment_methods (environment, subject_id)
    WHERE subject_type IS NOT NULL AND subject_id IS NOT NULL;

-- Row-level security is turned on by postgres/readers.py: all others read as before.

-- Only Billhook changes the rows, whatever an app's policies and grants are.
CREATE POLICY billhook_refuse_changes ON payments.stripe_payment_methods
    AS RESTRICTIVE FOR UPDATE TO anon, authenticated
    USING (true) WITH CHECK (current_user NOT IN ('anon', 'authenticated'));

GRANT SELECT ON payments.stripe_invoices TO authenticated;
GRANT SELECT, UPDATE (updated_at) ON payments.stripe_payment_methods TO authenticated;
