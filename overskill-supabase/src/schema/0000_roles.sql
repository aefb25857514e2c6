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
