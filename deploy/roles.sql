-- The roles that Billhook needs, for a database that has none of them. Run it with psql as an
-- administrator, with the password of the role `billhook` in BILLHOOK_DATABASE_PASSWORD.
\set ON_ERROR_STOP on
\getenv password BILLHOOK_DATABASE_PASSWORD
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE project_admin NOLOGIN;
CREATE ROLE billhook LOGIN PASSWORD :'password';
GRANT anon, authenticated, project_admin TO billhook;
SELECT format('GRANT CREATE ON DATABASE %I TO billhook', current_database()) \gexec
