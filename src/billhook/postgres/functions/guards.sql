-- Callers may insert rows of their own into the two session tables (contract section 4), also with
-- SQL of their own, such as through PostgREST. Only Billhook sets a session's outcome.

-- Raises if a caller sets one of the columns that the trigger names. The time of a row is
-- PostgreSQL's: policies may count a caller's recent rows. The WHEN clause limits it to callers, so
-- Billhook's own writes skip it.
CREATE OR REPLACE FUNCTION billhook.refuse_outcomes() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given  jsonb := to_jsonb(NEW);
    before jsonb := '{"status": "initialized", "raw": {}}';
    taken  text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before := to_jsonb(OLD);
        NEW.created_at := OLD.created_at;
    ELSE
        NEW.created_at := now();
        NEW.updated_at := now();
    END IF;
    SELECT string_agg(name, ', ') INTO taken FROM unnest(TG_ARGV) AS name
    WHERE coalesce(given -> name, 'null') <> coalesce(before -> name, 'null');
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION 'only Billhook may set these columns of %.%: %',
            TG_TABLE_SCHEMA, TG_TABLE_NAME, taken
            USING ERRCODE = 'insufficient_privilege',
                HINT = 'Leave them out. A new session is initialized.';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER billhook_refuse_outcomes
    BEFORE INSERT OR UPDATE ON payments.stripe_checkout_sessions
    FOR EACH ROW WHEN (current_user IN ('anon', 'authenticated'))
    EXECUTE FUNCTION billhook.refuse_outcomes(
        'status', 'payment_status', 'checkout_session_id', 'customer_id', 'payment_intent_id',
        'subscription_id', 'url', 'last_error', 'raw', 'provider_event_at', 'provider_event_rank',
        'provider_event_id', 'provider_event_previous', 'offer_options', 'redeemed_offer',
        'trial_granted');

CREATE OR REPLACE TRIGGER billhook_refuse_outcomes
    BEFORE INSERT OR UPDATE ON payments.stripe_customer_portal_sessions
    FOR EACH ROW WHEN (current_user IN ('anon', 'authenticated'))
    EXECUTE FUNCTION billhook.refuse_outcomes(
        'status', 'customer_id', 'url', 'last_error', 'raw');

-- Entries of the audit log stay as they are; only their results are added, once.
CREATE OR REPLACE FUNCTION billhook.keep_audit_log() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'entries of billhook.audit_log cannot be changed or removed'
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE OR REPLACE TRIGGER keep BEFORE UPDATE ON billhook.audit_log
    FOR EACH ROW WHEN (OLD.outcome IS NOT NULL
        OR (OLD.target IS NOT NULL AND OLD.target IS DISTINCT FROM NEW.target)
        OR to_jsonb(OLD) - '{target,outcome,ended_at,error,request,after}'::text[]
            IS DISTINCT FROM to_jsonb(NEW) - '{target,outcome,ended_at,error,request,after}'::text[])
    EXECUTE FUNCTION billhook.keep_audit_log();
CREATE OR REPLACE TRIGGER keep_all BEFORE DELETE OR TRUNCATE ON billhook.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION billhook.keep_audit_log();
