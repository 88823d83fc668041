-- The database roles of Pombo: run by a superuser in Pombo's database, before the migrations, as often as you like.
--
--   PGOPTIONS="-c pombo.password=$POMBO_DB_PASSWORD" psql -v ON_ERROR_STOP=1 -f roles.sql <database>
--
-- With pombo.password set every role that logs in gets that password; without it passwords stay as they are.
--
--   <schema>_owner     owns the schema and runs its migrations
--   <schema>_worker    reads and writes the rows of all accounts (a policy USING (true) on each table), makes nothing
--   campaign_api_web   answers people: row-level security applies; reads the projections, writes none of them
--   analyst            group of the read-only roles, one per account

DO $roles$
DECLARE
  services CONSTANT text[] := ARRAY['campaign_api', 'scheduler', 'sender', 'webhook_ingest', 'projections'];
  logins CONSTANT text[] := ARRAY['campaign_api_web']
    || (SELECT array_agg(service || suffix) FROM unnest(services) service, unnest(ARRAY['_owner', '_worker']) suffix);
  new_password CONSTANT text := nullif(current_setting('pombo.password', true), '');
  role_name text;
  service text;
BEGIN
  FOREACH role_name IN ARRAY logins || ARRAY['analyst'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I', role_name);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;  -- roles belong to the whole server: another database was prepared at the same moment
      END;
    END IF;
    EXECUTE format(
      'ALTER ROLE %I WITH %s NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS',
      role_name, CASE WHEN role_name = 'analyst' THEN 'NOLOGIN' ELSE 'LOGIN' END
    );
    IF new_password IS NOT NULL AND role_name <> 'analyst' THEN
      EXECUTE format('ALTER ROLE %I PASSWORD %L', role_name, new_password);
    END IF;
  END LOOP;

  -- Nobody enters or makes anything unless it is said here.
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  REVOKE ALL ON SCHEMA public FROM PUBLIC;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO campaign_api_web, analyst', current_database());

  FOREACH service IN ARRAY services LOOP
    -- TEMPORARY: bulk rows are staged in temporary tables.
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I, %I',
      current_database(), service || '_owner', service || '_worker');
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', service, service || '_owner');
    EXECUTE format('ALTER SCHEMA %I OWNER TO %I', service, service || '_owner');
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', service);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', service, service || '_worker');
    EXECUTE format(
      'ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I',
      service || '_owner', service || '_worker');
    EXECUTE format(
      'ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT USAGE, SELECT ON SEQUENCES TO %I',
      service || '_owner', service || '_worker');
  END LOOP;

  -- Two generations of the read models: one is read while the other is rebuilt; the views of `projections` show one.
  FOREACH service IN ARRAY ARRAY['projections_g1', 'projections_g2'] LOOP
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION projections_owner', service);
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', service);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO projections_worker, campaign_api_web, analyst', service);
  END LOOP;

  GRANT USAGE ON SCHEMA campaign_api, projections TO campaign_api_web;
  ALTER DEFAULT PRIVILEGES FOR ROLE campaign_api_owner
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO campaign_api_web;
  ALTER DEFAULT PRIVILEGES FOR ROLE campaign_api_owner GRANT USAGE, SELECT ON SEQUENCES TO campaign_api_web;
  ALTER DEFAULT PRIVILEGES FOR ROLE projections_owner GRANT SELECT ON TABLES TO campaign_api_web;

  -- Analysts see only the views that a migration grants them.
  GRANT USAGE ON SCHEMA projections TO analyst;
END
$roles$;
