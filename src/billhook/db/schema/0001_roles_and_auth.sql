-- Roles, schemas and the helpers that policies use (contract section 2).
-- InsForge and Supabase databases have most of this: nothing that exists is touched.

CREATE SCHEMA IF NOT EXISTS billhook;
CREATE SCHEMA IF NOT EXISTS payments;
CREATE SCHEMA IF NOT EXISTS system;

DO $$
DECLARE
    wanted text;
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
        BEGIN
            EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
        EXCEPTION
            WHEN insufficient_privilege THEN
                IF NOT pg_has_role(current_user, wanted, 'MEMBER') THEN
                    RAISE EXCEPTION 'the database user % must be a member of role %', current_user, wanted
                        USING HINT = format('As an administrator run: GRANT %I TO %I', wanted, current_user);
                END IF;
            WHEN invalid_grant_operation THEN
                NULL;  -- connected as that very role's owner
        END;
    END LOOP;
END $$;

DO $$
BEGIN
    IF to_regnamespace('auth') IS NULL THEN
        CREATE SCHEMA auth;
    END IF;

    -- RETURN: resolved here and now, whatever the search_path of those who call them.
    IF to_regprocedure('auth.jwt()') IS NULL THEN
        CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE
            RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb;
        GRANT EXECUTE ON FUNCTION auth.jwt() TO PUBLIC;
    END IF;
    IF to_regprocedure('auth.uid()') IS NULL THEN
        CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
            RETURN nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid;
        GRANT EXECUTE ON FUNCTION auth.uid() TO PUBLIC;
    END IF;
    IF to_regprocedure('auth.role()') IS NULL THEN
        CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE
            RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role';
        GRANT EXECUTE ON FUNCTION auth.role() TO PUBLIC;
    END IF;
    IF to_regprocedure('auth.email()') IS NULL THEN
        CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE
            RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email';
        GRANT EXECUTE ON FUNCTION auth.email() TO PUBLIC;
    END IF;
END $$;
