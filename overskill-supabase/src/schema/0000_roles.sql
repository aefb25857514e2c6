-- The two roles that log in for tenants. They own nothing, belong to nothing and may do nothing by themselves.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['overskill_app', 'overskill_explorer'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', role);
            EXECUTE format('ALTER ROLE %I SET lock_timeout = ''3s''', role);
            EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = ''15s''', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this server has it
        END;
    END LOOP;
    BEGIN
        -- A statement that nobody waits for any more ends: its client closed the connection.
        ALTER ROLE overskill_app SET client_connection_check_interval = '1s';
        ALTER ROLE overskill_explorer SET client_connection_check_interval = '1s';
    EXCEPTION WHEN insufficient_privilege OR invalid_parameter_value THEN
        NULL; -- not on every system
    END;
    BEGIN
        ALTER ROLE overskill_app SET statement_timeout = '15s';
        ALTER ROLE overskill_explorer SET statement_timeout = '3s';
        ALTER ROLE overskill_explorer SET default_transaction_read_only = on;
    EXCEPTION WHEN insufficient_privilege THEN
        NULL; -- it was made by somebody else, who set it
    END;
END $$;

-- No role of tenants makes temporary objects: what stays on a connection, the next tenant meets. Everybody may, until somebody
-- who owns the database says otherwise; roles that have something in it already keep it. Not the others of the server, which
-- could be dropped without a look at this database, and still can; nor a role that a tenant's belongs to.
DO $$
DECLARE
    tenants CONSTANT text[] := '{overskill_app,overskill_explorer,authenticated,anon}';
    base pg_catalog.pg_database;
    role text;
BEGIN
    SELECT d.* INTO base FROM pg_catalog.pg_database d WHERE d.datname = current_database();
    IF NOT pg_has_role(base.datdba, 'USAGE') THEN
        RETURN; -- it would be a warning, and change nothing
    END IF;
    IF EXISTS (SELECT FROM aclexplode(coalesce(base.datacl, acldefault('d', base.datdba))) a
               WHERE a.grantee = 0 AND a.privilege_type = 'TEMPORARY')
    THEN
        FOR role IN SELECT r.rolname FROM pg_catalog.pg_roles r
            WHERE r.rolname <> ALL (tenants) AND NOT starts_with(r.rolname, 'pg_') AND NOT r.rolsuper AND r.oid <> base.datdba
              AND EXISTS (SELECT FROM pg_catalog.pg_shdepend d
                          WHERE d.dbid = base.oid AND d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid)
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles t
                              WHERE t.rolname = ANY (tenants) AND NOT t.rolsuper AND pg_has_role(t.oid, r.oid, 'MEMBER'))
        LOOP
            EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', base.datname, role);
        END LOOP;
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', base.datname);
    END IF;
    FOR role IN SELECT r.rolname FROM pg_catalog.pg_roles r
        WHERE r.rolname = ANY (tenants) AND has_database_privilege(r.oid, base.oid, 'TEMPORARY')
    LOOP
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM %I', base.datname, role);
    END LOOP;
END $$;
