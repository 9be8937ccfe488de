-- Payments and refunds per environment, UTC day and currency, and the number of subscriptions by
-- status: an overview reads a few hundred rows, however many there are to count
-- (docs/decisions/0007-daily-totals.md).
--
-- Every write that affects the totals inserts a row of changes, so events never wait for each other
-- on a day's row. A reader adds totals and changes in one statement, which is exact at any moment;
-- fold_changes moves the changes into the totals, and so keeps that fast.

-- What a transaction adds to its day, times `sign`; no row if that is nothing. Payments outside Stripe
-- are not revenue, and a payment canceled without a failed attempt is not a failure.
CREATE OR REPLACE FUNCTION billhook.daily_share(t payments.transactions, sign bigint)
RETURNS SETOF billhook.daily_changes LANGUAGE sql IMMUTABLE AS $$
    SELECT t.environment,
        (coalesce(
            CASE WHEN t.type = 'refund' THEN t.refunded_at
                 WHEN t.status = 'failed' THEN t.failed_at
                 ELSE t.paid_at END,
            t.provider_created_at, t.created_at) AT TIME ZONE 'UTC')::date,
        t.currency,
        CASE WHEN t.type <> 'refund' AND t.status <> 'failed'
            THEN sign * coalesce(t.amount, 0)::numeric ELSE 0::numeric END,
        CASE WHEN t.type = 'refund' THEN sign * coalesce(t.amount, 0)::numeric ELSE 0::numeric END,
        CASE WHEN t.type <> 'refund' AND t.status <> 'failed' THEN sign ELSE 0 END,
        CASE WHEN t.type = 'refund' THEN sign ELSE 0 END,
        CASE WHEN t.type <> 'refund' AND t.status = 'failed' THEN sign ELSE 0 END
    WHERE t.provider = 'stripe' AND t.currency <> '' AND t.status <> 'pending'
      AND t.canceled_at IS NULL AND (t.amount_out_of_band = 0 OR t.amount > 0)
      AND (t.type <> 'refund' OR t.status = 'refunded')
$$;

-- With Billhook's permissions, whichever role changes a transaction.
CREATE OR REPLACE FUNCTION billhook.note_daily_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CASE TG_OP
    WHEN 'INSERT' THEN
        INSERT INTO billhook.daily_changes SELECT * FROM billhook.daily_share(NEW, 1);
    WHEN 'DELETE' THEN
        INSERT INTO billhook.daily_changes SELECT * FROM billhook.daily_share(OLD, -1);
    ELSE
        INSERT INTO billhook.daily_changes
        SELECT environment, day, currency, sum(payments), sum(refunds), sum(succeeded),
            sum(refunded), sum(failed)
        FROM (SELECT * FROM billhook.daily_share(OLD, -1)
              UNION ALL SELECT * FROM billhook.daily_share(NEW, 1)) AS both_shares
        GROUP BY environment, day, currency
        HAVING (sum(payments), sum(refunds), sum(succeeded), sum(refunded), sum(failed))
            <> (0, 0, 0, 0, 0);
    END CASE;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER billhook_count_insert AFTER INSERT ON payments.transactions
    FOR EACH ROW WHEN (NEW.status <> 'pending')
    EXECUTE FUNCTION billhook.note_daily_change();
CREATE OR REPLACE TRIGGER billhook_count_update AFTER UPDATE ON payments.transactions
    FOR EACH ROW WHEN (
        (OLD.environment, OLD.provider, OLD.type, OLD.status, OLD.amount, OLD.currency, OLD.paid_at,
            OLD.failed_at, OLD.refunded_at, OLD.provider_created_at, OLD.created_at,
            OLD.canceled_at, OLD.amount_out_of_band)
        IS DISTINCT FROM
        (NEW.environment, NEW.provider, NEW.type, NEW.status, NEW.amount, NEW.currency, NEW.paid_at,
            NEW.failed_at, NEW.refunded_at, NEW.provider_created_at, NEW.created_at,
            NEW.canceled_at, NEW.amount_out_of_band))
    EXECUTE FUNCTION billhook.note_daily_change();
CREATE OR REPLACE TRIGGER billhook_count_delete AFTER DELETE ON payments.transactions
    FOR EACH ROW WHEN (OLD.status <> 'pending')
    EXECUTE FUNCTION billhook.note_daily_change();

CREATE OR REPLACE FUNCTION billhook.note_subscription_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO billhook.subscription_changes VALUES (OLD.environment, OLD.status, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO billhook.subscription_changes VALUES (NEW.environment, NEW.status, 1);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER billhook_count AFTER INSERT OR DELETE ON payments.stripe_subscriptions
    FOR EACH ROW EXECUTE FUNCTION billhook.note_subscription_change();
CREATE OR REPLACE TRIGGER billhook_count_update AFTER UPDATE ON payments.stripe_subscriptions
    FOR EACH ROW WHEN (
        (OLD.environment, OLD.status) IS DISTINCT FROM (NEW.environment, NEW.status))
    EXECUTE FUNCTION billhook.note_subscription_change();

-- Only one fold at a time: they would wait for each other's rows of the totals.
CREATE OR REPLACE FUNCTION billhook.fold_key() RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT pg_catalog.hashtextextended('billhook.fold_changes', 0) $$;

-- TRUNCATE waits for everybody who writes the table: nobody else has changes under way.
CREATE OR REPLACE FUNCTION billhook.clear_totals() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(billhook.fold_key());
    IF TG_TABLE_NAME = 'transactions' THEN
        DELETE FROM billhook.daily_changes;
        DELETE FROM billhook.daily_totals;
    ELSE
        DELETE FROM billhook.subscription_changes;
        DELETE FROM billhook.subscription_totals;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER billhook_count_truncate AFTER TRUNCATE ON payments.transactions
    FOR EACH STATEMENT EXECUTE FUNCTION billhook.clear_totals();
CREATE OR REPLACE TRIGGER billhook_count_truncate AFTER TRUNCATE ON payments.stripe_subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION billhook.clear_totals();

-- Move up to `most` changes of each kind into the totals. Returns how many were moved; 0 if another
-- process is folding.
CREATE OR REPLACE FUNCTION billhook.fold_changes(most integer) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    daily bigint;
    of_subscriptions bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(billhook.fold_key()) THEN
        RETURN 0;
    END IF;
    WITH moved AS (
        DELETE FROM billhook.daily_changes
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM billhook.daily_changes LIMIT most))
        RETURNING *
    ), added AS (
        INSERT INTO billhook.daily_totals AS t
        SELECT environment, day, currency, sum(payments), sum(refunds), sum(succeeded),
            sum(refunded), sum(failed)
        FROM moved GROUP BY environment, day, currency
        ON CONFLICT (environment, day, currency) DO UPDATE SET
            payments = t.payments + EXCLUDED.payments, refunds = t.refunds + EXCLUDED.refunds,
            succeeded = t.succeeded + EXCLUDED.succeeded,
            refunded = t.refunded + EXCLUDED.refunded, failed = t.failed + EXCLUDED.failed
    )
    SELECT count(*) INTO daily FROM moved;
    WITH moved AS (
        DELETE FROM billhook.subscription_changes
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM billhook.subscription_changes LIMIT most))
        RETURNING *
    ), added AS (
        INSERT INTO billhook.subscription_totals AS t
        SELECT environment, status, sum(subscriptions) FROM moved GROUP BY environment, status
        ON CONFLICT (environment, status) DO UPDATE SET
            subscriptions = t.subscriptions + EXCLUDED.subscriptions
    )
    SELECT count(*) INTO of_subscriptions FROM moved;
    RETURN daily + of_subscriptions;
END $$;

-- Totals and changes, added up. How many changes there are PostgreSQL cannot know: it would sort them.
CREATE OR REPLACE FUNCTION billhook.daily_figures(env text, first date, last date)
RETURNS SETOF billhook.daily_totals LANGUAGE sql STABLE SET enable_sort = off SET search_path = pg_catalog, pg_temp AS $$
    SELECT environment, day, currency, sum(payments), sum(refunds),
        sum(succeeded)::bigint, sum(refunded)::bigint, sum(failed)::bigint
    FROM (SELECT * FROM billhook.daily_totals
          UNION ALL SELECT * FROM billhook.daily_changes) AS counted
    WHERE environment = env AND day BETWEEN first AND last
    GROUP BY environment, day, currency
$$;

CREATE OR REPLACE FUNCTION billhook.subscription_figures(env text)
RETURNS SETOF billhook.subscription_totals LANGUAGE sql STABLE SET enable_sort = off SET search_path = pg_catalog, pg_temp AS $$
    SELECT environment, status, sum(subscriptions)::bigint
    FROM (SELECT * FROM billhook.subscription_totals
          UNION ALL SELECT * FROM billhook.subscription_changes) AS counted
    WHERE environment = env
    GROUP BY environment, status
$$;
