-- Roles, schemas and the helpers that policies use (contract section 2).
-- InsForge and Supabase databases already have most of this; existing objects are not changed.

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['billhook', 'payments', 'system'] LOOP
        -- IF NOT EXISTS requires the privilege to create a schema even if it exists.
        IF to_regnamespace(wanted) IS NULL THEN
            EXECUTE format('CREATE SCHEMA %I', wanted);
        END IF;
    END LOOP;
END $$;

DO $$
DECLARE
    wanted text;
    -- Since PostgreSQL 16, members may lack the privilege to SET ROLE.
    knows_set boolean := current_setting('server_version_num')::integer >= 160000;
    needed text := CASE WHEN knows_set THEN 'SET' ELSE 'MEMBER' END;
    option text := CASE WHEN knows_set THEN ' WITH SET TRUE' ELSE '' END;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'project_admin'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- roles belong to the cluster: another database's migration was faster
            END;
        END IF;
        -- Billhook must be able to become the caller.
        IF NOT pg_has_role(current_user, wanted, needed) THEN
            BEGIN
                EXECUTE format('GRANT %I TO CURRENT_USER%s', wanted, option);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the database user % may not SET ROLE %', current_user, wanted
                    USING HINT = format('As an administrator run: GRANT %I TO %I%s;',
                        wanted, current_user, option);
            END;
        END IF;
    END LOOP;
END $$;

DO $$
DECLARE
    -- Without reading a schema to which we may have no access.
    known text[] := ARRAY(
        SELECT p.proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'auth' AND p.pronargs = 0);
BEGIN
    IF to_regnamespace('auth') IS NULL THEN
        CREATE SCHEMA auth;
    END IF;

    -- RETURN: names are resolved now, whatever the search_path of the callers.
    IF NOT 'jwt' = ANY (known) THEN
        CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE
            RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb;
        GRANT EXECUTE ON FUNCTION auth.jwt() TO PUBLIC;
    END IF;
    IF NOT 'uid' = ANY (known) THEN
        CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
            RETURN nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid;
        GRANT EXECUTE ON FUNCTION auth.uid() TO PUBLIC;
    END IF;
    IF NOT 'role' = ANY (known) THEN
        CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE
            RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role';
        GRANT EXECUTE ON FUNCTION auth.role() TO PUBLIC;
    END IF;
    IF NOT 'email' = ANY (known) THEN
        CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE
            RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email';
        GRANT EXECUTE ON FUNCTION auth.email() TO PUBLIC;
    END IF;
END $$;
