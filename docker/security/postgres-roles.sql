-- The roles of Anabranch in Postgres. Run it as a superuser, in the database that fusion writes to:
--   psql --dbname anabranch --file docker/security/postgres-roles.sql
-- It may be run again at any time. Then give the two that log in a password (\password anabranch_fusion)
-- or another way to log in, let the owner set up the tables (`node main.mjs migrate` of fusion, with
-- the owner's DATABASE_URL), and start fusion as anabranch_fusion. Ingest and the processors need none.
--
--   anabranch_owner   makes and owns tables and views; logs in for `migrate` only, at a new definition or version
--   anabranch_fusion  reads and writes the tables; makes, alters, deletes and empties none, and deletes no row
--   anabranch_reader  reads the views and the ledger, not the state behind them: GRANT anabranch_reader TO alice
--
-- Where fusion has made the tables as another role so far, stop it, and first: REASSIGN OWNED BY that_role TO anabranch_owner.

DO $$
DECLARE
  role text;
BEGIN
  FOREACH role IN ARRAY ARRAY['anabranch_owner', 'anabranch_fusion', 'anabranch_reader'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
      EXECUTE format('CREATE ROLE %I %s', role, CASE role WHEN 'anabranch_reader' THEN 'NOLOGIN' ELSE 'LOGIN' END);
    END IF;
  END LOOP;

  -- Nobody connects who isn't one of them, or a member.
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO anabranch_owner, anabranch_fusion, anabranch_reader', current_database());
  -- For another schema that the definition names (`schema: reports`).
  EXECUTE format('GRANT CREATE ON DATABASE %I TO anabranch_owner', current_database());
  -- Rows to merge pass through temporary tables.
  EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO anabranch_owner, anabranch_fusion', current_database());
END
$$;

CREATE SCHEMA IF NOT EXISTS anabranch AUTHORIZATION anabranch_owner;
GRANT USAGE ON SCHEMA anabranch TO anabranch_fusion;
-- Where the views are. Leave this out when the definition names another schema.
GRANT CREATE, USAGE ON SCHEMA public TO anabranch_owner;
GRANT USAGE ON SCHEMA public TO anabranch_reader;

-- The tables of the ledger and those of the definition, as they are made; and those that are there.
ALTER DEFAULT PRIVILEGES FOR ROLE anabranch_owner IN SCHEMA anabranch
  GRANT SELECT, INSERT, UPDATE ON TABLES TO anabranch_fusion;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA anabranch TO anabranch_fusion;
