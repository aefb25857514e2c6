-- Where an app's tables are: the shared ones, a schema of its own in this database, or another project's database.
--
-- overskill_guard.apps says it, in the row that every transaction reads anyway, so nobody can hold an old answer:
--   home           the schema with the app's tables in this database; null when they are not in this database
--   project        whose database they are in, when they are not in this one; only the platform's own database knows
--   generation     grows by one with each move
--   writes_paused  while a move copies
--   mover          whoever moves it now; what an older one still sends changes nothing
ALTER TABLE overskill_guard.apps
    ADD home text DEFAULT 'overskill_data' CHECK (home = 'overskill_data' OR home ~ '^overskill_app_[0-9a-f]{16}$'),
    ADD project text CHECK (project ~ '^[a-z0-9-]{1,64}$'),
    ADD generation bigint NOT NULL DEFAULT 0,
    ADD writes_paused boolean NOT NULL DEFAULT false,
    ADD mover text,
    ADD CHECK (home IS NULL OR project IS NULL);

-- Moves, those that ended too. A place is a schema of this database, or `project:` and its name.
CREATE TABLE overskill_guard.moves (
    move text PRIMARY KEY,
    app_id bigint NOT NULL REFERENCES overskill_guard.apps,
    source text NOT NULL,
    target text NOT NULL,
    generation bigint NOT NULL,
    step text NOT NULL CHECK (step IN ('planned', 'prepared', 'pausing', 'paused', 'copied', 'verified', 'cut_over',
                                       'kept', 'dropped', 'aborting', 'aborted')),
    runner text NOT NULL,
    -- The table and the key that copying came to.
    copied jsonb,
    rows_copied bigint NOT NULL DEFAULT 0,
    began_at timestamptz NOT NULL,
    cut_at timestamptz
);
CREATE UNIQUE INDEX one_move_at_a_time ON overskill_guard.moves (app_id)
    WHERE step NOT IN ('kept', 'dropped', 'aborted');
CREATE INDEX moves_of_an_app ON overskill_guard.moves (app_id, began_at);
ALTER TABLE overskill_guard.moves ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY helpers ON overskill_guard.moves TO CURRENT_USER USING (true);

-- Whether this session moves an app: the owner of the tables, logged in as itself, and it said so. A setting alone, which
-- anybody can make, is not enough. Runs within functions of the owner.
CREATE FUNCTION overskill_guard.moving() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT session_user = current_user AND pg_catalog.current_setting('overskill.moving', true) = 'on'
$$;

-- The app of this transaction, if its tables are those of this schema. An error when they are others: what was left behind
-- by a move must not look like the app's data, nor like an app without any.
CREATE FUNCTION overskill_guard.app_in(place text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := overskill_guard.present();
    it record;
BEGIN
    IF part IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT a.app_id, a.home, a.state INTO it FROM overskill_guard.apps a WHERE a.app = part[3] AND a.environment = part[4];
    IF it.home = place AND it.state = 'active' THEN
        RETURN it.app_id;
    ELSIF overskill_guard.moving() THEN
        RETURN it.app_id;
    ELSIF it.state = 'active' THEN
        RAISE SQLSTATE 'OS002' USING MESSAGE = 'the app has its data in other tables';
    END IF;
    RETURN NULL;
END $$;

-- Where the tables are of the app whose context this transaction has: generation, schema and project, apart by colons.
-- Empty for an app that is not known or suspended, null when the context does not hold.
CREATE FUNCTION overskill_data.whereabouts() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := overskill_guard.present();
    answer text;
BEGIN
    IF part IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT a.generation || ':' || coalesce(a.home, '') || ':' || coalesce(a.project, '') INTO answer
    FROM overskill_guard.apps a WHERE a.app = part[3] AND a.environment = part[4] AND a.state = 'active';
    RETURN coalesce(answer, '');
END $$;

-- Raises an error unless the app's tables are those of `place` and may be written. Whoever asks holds a lock on the table
-- already, and the mover waits for those locks once it has paused writes: nobody who was told yes can come too late.
CREATE FUNCTION overskill_guard.writable(number bigint, place text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    it record;
BEGIN
    IF pg_catalog.current_setting('transaction_isolation') = 'read committed' THEN
        SELECT a.home, a.writes_paused INTO it FROM overskill_guard.apps a WHERE a.app_id = number;
    ELSE
        -- It sees the past; the lock is refused if that is not the present.
        SELECT a.home, a.writes_paused INTO it FROM overskill_guard.apps a WHERE a.app_id = number FOR SHARE;
    END IF;
    IF it.home IS DISTINCT FROM place THEN
        RAISE SQLSTATE 'OS002' USING MESSAGE = 'the app has its data in other tables';
    ELSIF it.writes_paused THEN
        RAISE SQLSTATE 'OS001' USING MESSAGE = 'the app is being moved: writes have to wait until that is done';
    END IF;
END $$;

-- Kinds of records wait for moves, too, whoever changes them. What a move brings is held to the limits of those who make kinds;
-- one that is there already, from a page whose note was lost, is not one more.
CREATE FUNCTION overskill_guard.kind_written() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    others bigint;
BEGIN
    IF TG_OP <> 'DELETE' AND octet_length(NEW.columns::text) > 1048576 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'the columns of an entity may take 1 MiB: have fewer of them, or shorter defaults';
    END IF;
    IF NOT overskill_guard.moving() THEN
        PERFORM overskill_guard.writable(CASE TG_OP WHEN 'DELETE' THEN OLD.app_id ELSE NEW.app_id END, TG_TABLE_SCHEMA);
    ELSIF TG_OP = 'INSERT' THEN
        EXECUTE format('SELECT count(*) FROM %I.entity_types t WHERE t.app_id = $1 AND t.entity_type <> $2', TG_TABLE_SCHEMA)
        INTO others USING NEW.app_id, NEW.entity_type;
        IF others >= 500 THEN
            RAISE program_limit_exceeded USING MESSAGE = 'an app may have at most 500 entities';
        ELSIF octet_length(NEW.slots::text) > 4096 OR NEW.renamed_to IS NOT NULL THEN
            RAISE invalid_parameter_value USING MESSAGE = 'an entity has slots that are none, or is being renamed';
        END IF;
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE TRIGGER kind_written BEFORE INSERT OR UPDATE OR DELETE ON overskill_data.entity_types
FOR EACH ROW EXECUTE FUNCTION overskill_guard.kind_written();

-- Makes the tables of an app in a schema of its own, or mends them: each like the shared table of that name, with its
-- policies, its triggers, its references within the schema, and the grants of our own roles and PostgREST's. Whatever else
-- somebody's default privileges gave away is taken back. For the owner alone.
CREATE FUNCTION overskill_guard.furnish(place text, number bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = 'warning' AS $$
DECLARE
    shared CONSTANT oid := 'overskill_data'::regnamespace;
    tenants CONSTANT text[] := ARRAY(SELECT r.rolname FROM pg_catalog.pg_roles r
                                     WHERE r.rolname IN ('overskill_app', 'overskill_explorer', 'authenticated'));
    it record;
    part record;
    roles text;
BEGIN
    IF place !~ '^overskill_app_[0-9a-f]{16}$' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a schema of an app is named overskill_app_ and 16 hex digits';
    END IF;
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', place);
    FOR it IN SELECT DISTINCT coalesce(r.rolname, 'public') AS who, r.oid IS NULL AS everybody
              FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
              WHERE n.nspname = place AND a.grantee <> n.nspowner
    LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s', place, CASE WHEN it.everybody THEN 'PUBLIC' ELSE quote_ident(it.who) END);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', place, array_to_string(tenants, ', '));

    FOR it IN SELECT c.oid, c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = shared AND c.relkind = 'r' LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I.%I (LIKE overskill_data.%I INCLUDING ALL)', place, it.relname, it.relname);
        EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', place, it.relname);
        EXECUTE format('ALTER TABLE %1$I.%2$I DROP CONSTRAINT IF EXISTS one_app, ADD CONSTRAINT one_app CHECK (app_id = %3$L::bigint)',
                       place, it.relname, number);
        FOR part IN SELECT a.attname FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = format('%I.%I', place, it.relname)::regclass AND a.attnum > 0 AND NOT a.attisdropped
        LOOP
            EXECUTE format('ALTER TABLE %I.%I ALTER COLUMN %I SET STATISTICS 0', place, it.relname, part.attname);
        END LOOP;

        FOR part IN SELECT DISTINCT coalesce(r.rolname, 'public') AS who, r.oid IS NULL AS everybody
                    FROM pg_catalog.pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
                    WHERE c.oid = format('%I.%I', place, it.relname)::regclass AND a.grantee <> c.relowner
        LOOP
            EXECUTE format('REVOKE ALL ON %I.%I FROM %s', place, it.relname,
                           CASE WHEN part.everybody THEN 'PUBLIC' ELSE quote_ident(part.who) END);
        END LOOP;
        FOR part IN SELECT g.privilege_type AS may, r.rolname, '' AS of_column
                    FROM pg_catalog.pg_class c, aclexplode(c.relacl) g JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
                    WHERE c.oid = it.oid AND r.rolname = ANY (tenants)
                    UNION ALL SELECT g.privilege_type, r.rolname, format('(%I)', t.attname)
                    FROM pg_catalog.pg_attribute t, aclexplode(t.attacl) g JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
                    WHERE t.attrelid = it.oid AND r.rolname = ANY (tenants)
        LOOP
            EXECUTE format('GRANT %s %s ON %I.%I TO %I', part.may, part.of_column, place, it.relname, part.rolname);
        END LOOP;

        FOR part IN SELECT p.polname FROM pg_catalog.pg_policy p WHERE p.polrelid = format('%I.%I', place, it.relname)::regclass LOOP
            EXECUTE format('DROP POLICY %I ON %I.%I', part.polname, place, it.relname);
        END LOOP;
        FOR part IN SELECT p.*, pg_get_expr(p.polqual, p.polrelid) AS sees, pg_get_expr(p.polwithcheck, p.polrelid) AS writes
                    FROM pg_catalog.pg_policy p WHERE p.polrelid = it.oid
        LOOP
            SELECT string_agg(CASE WHEN r.oid IS NULL THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, ', ' ORDER BY u.n) INTO roles
            FROM unnest(part.polroles) WITH ORDINALITY u(oid, n) LEFT JOIN pg_catalog.pg_roles r ON r.oid = u.oid;
            EXECUTE format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s', part.polname, place, it.relname,
                    CASE WHEN part.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                    CASE part.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
                                     ELSE 'ALL' END, roles)
                || replace(coalesce(' USING (' || part.sees || ')', '') || coalesce(' WITH CHECK (' || part.writes || ')', ''),
                           'app_in(''overskill_data''::text)', format('app_in(%L::text)', place));
        END LOOP;

        FOR part IN SELECT t.tgname, pg_get_triggerdef(t.oid) AS definition FROM pg_catalog.pg_trigger t
                    WHERE t.tgrelid = it.oid AND NOT t.tgisinternal
        LOOP
            EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I.%I', part.tgname, place, it.relname);
            EXECUTE replace(part.definition, ' ON overskill_data.', format(' ON %I.', place));
        END LOOP;
    END LOOP;

    -- Not those to tables elsewhere: `one_app` says the same, and dropping them again would lock a table that all apps need.
    FOR it IN SELECT c.conname, t.relname, pg_get_constraintdef(c.oid) AS definition FROM pg_catalog.pg_constraint c
              JOIN pg_catalog.pg_class t ON t.oid = c.conrelid JOIN pg_catalog.pg_class f ON f.oid = c.confrelid
              WHERE t.relnamespace = shared AND t.relkind = 'r' AND c.contype = 'f' AND f.relnamespace = shared
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
                       WHERE c.conrelid = format('%I.%I', place, it.relname)::regclass AND c.conname = it.conname) THEN
            EXECUTE format('ALTER TABLE %I.%I ADD CONSTRAINT %I ', place, it.relname, it.conname)
                || replace(it.definition, 'REFERENCES overskill_data.', format('REFERENCES %I.', place));
        END IF;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION overskill_guard.moving(), overskill_guard.app_in(text), overskill_guard.writable(bigint, text),
    overskill_guard.furnish(text, bigint), overskill_guard.kind_written(), overskill_guard.tables_of(bigint),
    overskill_data.whereabouts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION overskill_guard.app_in(text), overskill_data.whereabouts() TO overskill_app, overskill_explorer;
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticated') THEN
        GRANT EXECUTE ON FUNCTION overskill_guard.app_in(text) TO authenticated;
    END IF;
END $$;

ALTER POLICY app ON overskill_data.entity_types
    USING (app_id = (SELECT overskill_guard.app_in('overskill_data')))
    WITH CHECK (app_id = (SELECT overskill_guard.app_in('overskill_data')));
ALTER POLICY app ON overskill_data.entities
    USING (app_id = (SELECT overskill_guard.app_in('overskill_data')))
    WITH CHECK (app_id = (SELECT overskill_guard.app_in('overskill_data')));
