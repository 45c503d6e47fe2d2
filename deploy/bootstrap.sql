-- Prepares a database for the three services: a role and a schema each, and no right beyond. Run it as an
-- administrator, connected to the new, empty database: psql -f deploy/bootstrap.sql "$ADMIN_URL"
-- Safe to run again. The roles have no password until they are given one.
DO $$
DECLARE
    services constant text[] := ARRAY['licensing', 'billing', 'notification'];
    roles constant text := 'octroi_licensing, octroi_billing, octroi_notification';
    service text;
    owner text;
BEGIN
    FOREACH service IN ARRAY services LOOP
        owner := 'octroi_' || service;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = owner) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', owner);
        END IF;
        -- Who is not a superuser must be a member to make a schema that belongs to the role.
        IF NOT pg_has_role(current_user, owner, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', owner);
        END IF;
    END LOOP;

    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %s', current_database(), roles);
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') THEN
        EXECUTE format('REVOKE ALL ON SCHEMA public FROM PUBLIC, %s', roles);
    END IF;

    FOREACH service IN ARRAY services LOOP
        owner := 'octroi_' || service;
        EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', service, owner);
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', service);
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = %I', owner, current_database(), service);
    END LOOP;
END
$$;
