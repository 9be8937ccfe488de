-- Users read invoices and payment methods of their own, and change payment methods. The app's policies
-- decide which are theirs.

ALTER TABLE payments.stripe_payment_methods
    ADD COLUMN subject_type text,
    ADD COLUMN subject_id   text;
CREATE INDEX stripe_payment_methods_by_subject
    ON payments.stripe_payment_methods (environment, subject_id)
    WHERE subject_type IS NOT NULL AND subject_id IS NOT NULL;

-- Roles that may read the tables now keep reading them, also through views, for which PostgreSQL
-- takes the policies of the view's owner. So do roles that are granted SELECT later.
DO $$ DECLARE open record; BEGIN
    FOR open IN
        SELECT c.oid::regclass AS tab, string_agg(DISTINCT quote_ident(role.rolname), ', ') AS readers
        FROM pg_class c, pg_roles role
        WHERE c.oid IN ('payments.stripe_invoices'::regclass::oid,
                        'payments.stripe_payment_methods'::regclass::oid)
          AND (role.rolname = 'project_admin' OR role.oid IN (
              SELECT grantee FROM aclexplode(c.relacl) WHERE privilege_type = 'SELECT'))
          AND role.rolname NOT IN ('anon', 'authenticated')
        GROUP BY c.oid
    LOOP EXECUTE format('ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY;
        CREATE POLICY billhook_readers ON %1$s FOR SELECT TO %2$s USING (true);
        CREATE POLICY billhook_not_users ON %1$s FOR SELECT
            USING (current_user NOT IN (''anon'', ''authenticated''))', open.tab, open.readers);
    END LOOP;
END $$;

-- Only Billhook changes the rows, whatever an app's policies and grants are.
CREATE POLICY billhook_refuse_changes ON payments.stripe_payment_methods
    AS RESTRICTIVE FOR UPDATE TO anon, authenticated
    USING (true) WITH CHECK (current_user NOT IN ('anon', 'authenticated'));

GRANT SELECT ON payments.stripe_invoices TO authenticated;
GRANT SELECT, UPDATE (updated_at) ON payments.stripe_payment_methods TO authenticated;
