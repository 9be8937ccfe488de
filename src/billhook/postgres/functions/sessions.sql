-- Reset the session, as the last step of a transaction: what the app's triggers and policies left in
-- it never reaches another one (docs/decisions/0009-sessions.md). Deferred triggers fire first.
--
-- Unlike DISCARD ALL this runs inside a transaction, and keeps the statements that the driver
-- prepared. postgres/sessions.py runs the same text where this function cannot be called.
CREATE OR REPLACE FUNCTION billhook.reset_session() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    prepared pg_catalog.name;
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
    RESET SESSION AUTHORIZATION;
    RESET ROLE;
    RESET ALL;
    EXECUTE 'CLOSE ALL';
    UNLISTEN *;
    DISCARD TEMPORARY;
    DISCARD SEQUENCES;
    PERFORM pg_catalog.pg_advisory_unlock_all();
    FOR prepared IN SELECT s.name FROM pg_catalog.pg_prepared_statements s WHERE s.from_sql LOOP
        EXECUTE pg_catalog.format('DEALLOCATE %I', prepared);
    END LOOP;
END $$;
