-- Apps' own tables: logical ones, whose columns stand in the catalog, and those in schemas of their own. Both have a history.

-- [{"name": "title", "type": "text", "nullable": false, "default": "…"}]; empty: anything goes.
ALTER TABLE overskill_data.entity_types
    ADD columns jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(columns) = 'array'),
    -- Only while the kind is renamed.
    ADD renamed_to text;
ALTER TABLE overskill_data.entity_types ALTER columns SET STATISTICS 0, ALTER renamed_to SET STATISTICS 0;

-- Schemas of this database that are one app's.
CREATE TABLE overskill_guard.app_schemas (
    schema_name text PRIMARY KEY CHECK (schema_name ~ '^[A-Za-z_][A-Za-z0-9_]{0,62}$'),
    app_id bigint NOT NULL REFERENCES overskill_guard.apps
);

CREATE TABLE overskill_guard.schema_changes (
    app_id bigint NOT NULL REFERENCES overskill_guard.apps,
    -- The schema; empty for the shared tables.
    place text NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    incarnation bigint NOT NULL,
    plan text NOT NULL CHECK (plan ~ '^[0-9a-f]{32}$'),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    subject text NOT NULL,
    change jsonb NOT NULL,
    steps jsonb NOT NULL,
    steps_done integer NOT NULL,
    state text NOT NULL CHECK (state IN ('begun', 'done', 'undone')),
    PRIMARY KEY (app_id, place, seq),
    UNIQUE (app_id, plan)
);
CREATE UNIQUE INDEX one_change_at_a_time ON overskill_guard.schema_changes (app_id, place) WHERE state = 'begun';

-- The schema with the tables of an app.
CREATE FUNCTION overskill_guard.tables_of(app bigint) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place text;
BEGIN
    SELECT a.home INTO place FROM overskill_guard.apps a WHERE a.app_id = tables_of.app;
    IF place IS NULL AND tables_of.app IS NOT NULL THEN
        RAISE SQLSTATE 'OS002' USING MESSAGE = 'the app has its data in other tables';
    END IF;
    RETURN place;
END $$;

-- Whether a value is one of that type.
CREATE FUNCTION overskill_guard.fits(kind text, given jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_a text := jsonb_typeof(given);
    said text := given #>> '{}';
    digits text[];
BEGIN
    IF kind = 'jsonb' THEN
        RETURN true;
    ELSIF kind = 'text' THEN
        RETURN is_a = 'string';
    ELSIF kind = 'boolean' THEN
        RETURN is_a = 'boolean';
    ELSIF kind = 'uuid' THEN
        RETURN is_a = 'string' AND said ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
    ELSIF kind LIKE 'varchar(%' THEN
        RETURN is_a = 'string' AND length(said) <= substring(kind FROM '[0-9]+')::pg_catalog.int4;
    ELSIF kind IN ('date', 'timestamptz') THEN
        -- No backslash in any function: a session reads it by a setting of whoever calls first, and keeps what it read.
        IF is_a <> 'string' OR said !~ (CASE kind WHEN 'date' THEN '^[0-9]{4}-[0-9]{2}-[0-9]{2}$'
            ELSE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$' END)
        THEN
            RETURN false;
        END IF;
        BEGIN
            PERFORM said::pg_catalog.timestamptz;
        EXCEPTION WHEN OTHERS THEN
            RETURN false;
        END;
        RETURN true;
    ELSIF is_a <> 'number' THEN
        RETURN false;
    ELSIF kind IN ('double precision', 'numeric') THEN
        RETURN true;
    ELSIF kind = 'integer' THEN
        RETURN said::pg_catalog.numeric % 1 = 0 AND said::pg_catalog.numeric BETWEEN -2147483648 AND 2147483647;
    ELSIF kind = 'bigint' THEN
        RETURN said::pg_catalog.numeric % 1 = 0
            AND said::pg_catalog.numeric BETWEEN -9223372036854775808 AND 9223372036854775807;
    ELSIF kind LIKE 'numeric(%' THEN
        digits := regexp_match(kind, '([0-9]+),([0-9]+)');
        RETURN round(said::pg_catalog.numeric, digits[2]::pg_catalog.int4) = said::pg_catalog.numeric
            AND abs(said::pg_catalog.numeric) < power(10::pg_catalog.numeric, digits[1]::pg_catalog.int4 - digits[2]::pg_catalog.int4);
    END IF;
    RETURN false;
END $$;

-- What a column begins with.
CREATE FUNCTION overskill_guard.begins_with(said jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE said WHEN '{"now": "timestamptz"}' THEN to_jsonb(to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
                     WHEN '{"now": "date"}' THEN to_jsonb(to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
                     WHEN '{"uuid": true}' THEN to_jsonb(gen_random_uuid())
                     ELSE said -> 'value' END
$$;

-- Refuses what does not fit the columns of its kind. Runs after `entity_written`, which says whose row it is. The kind is
-- locked as a foreign key would: nobody's columns change between this look and the commit.
CREATE FUNCTION overskill_guard.entity_fits() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moves CONSTANT boolean := session_user = current_user AND current_setting('overskill.moving', true) = 'on';
    kind record;
    col jsonb;
    given jsonb;
    slot text;
BEGIN
    IF TG_TABLE_SCHEMA = 'overskill_data' THEN
        SELECT t.columns, t.slots, t.renamed_to INTO kind FROM overskill_data.entity_types t
        WHERE t.app_id = NEW.app_id AND t.entity_type = NEW.entity_type FOR KEY SHARE;
    ELSE
        EXECUTE format('SELECT t.columns, t.slots, t.renamed_to FROM %I.entity_types t
            WHERE t.app_id = $1 AND t.entity_type = $2 FOR KEY SHARE', TG_TABLE_SCHEMA)
        INTO kind USING NEW.app_id, NEW.entity_type;
    END IF;
    IF kind.renamed_to IS NOT NULL THEN
        NEW.entity_type := kind.renamed_to;
        RETURN NEW;
    END IF;
    IF kind.columns = '[]' OR kind.columns IS NULL OR NEW.deleted_at IS NOT NULL THEN
        RETURN NEW;
    END IF;
    FOR col IN SELECT e FROM jsonb_array_elements(kind.columns) e LOOP
        given := NEW.data -> (col ->> 'name');
        IF given IS NULL AND TG_OP = 'INSERT' AND col ? 'default' AND NOT moves THEN
            given := overskill_guard.begins_with(col -> 'default');
            NEW.data := NEW.data || jsonb_build_object(col ->> 'name', given);
            SELECT s.key INTO slot FROM jsonb_each_text(kind.slots) s WHERE s.value = col ->> 'name';
            IF slot LIKE 't_' AND jsonb_typeof(given) = 'string' THEN
                NEW := jsonb_populate_record(NEW, jsonb_build_object(slot, left(given #>> '{}', 200)));
            ELSIF slot LIKE 'n_' AND jsonb_typeof(given) = 'number' THEN
                NEW := jsonb_populate_record(NEW, jsonb_build_object(slot, given));
            END IF;
        END IF;
        IF given IS NULL OR given = 'null' THEN
            IF NOT (col ->> 'nullable')::pg_catalog.bool THEN
                RAISE not_null_violation USING MESSAGE = format('field %s must not be empty', col ->> 'name'),
                    CONSTRAINT = format('field %s must not be empty', col ->> 'name');
            END IF;
        ELSIF NOT overskill_guard.fits(col ->> 'type', given) THEN
            RAISE check_violation USING MESSAGE = format('field %s must be of type %s', col ->> 'name', col ->> 'type'),
                CONSTRAINT = format('field %s must be of type %s', col ->> 'name', col ->> 'type');
        END IF;
    END LOOP;
    RETURN NEW;
END $$;

CREATE TRIGGER entity_written_fits BEFORE INSERT OR UPDATE OF data, deleted_at, entity_type ON overskill_data.entities
FOR EACH ROW EXECUTE FUNCTION overskill_guard.entity_fits();

-- The app of this transaction, for its developers.
CREATE FUNCTION overskill_guard.developed() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.app();
BEGIN
    IF mine IS NULL OR overskill_guard.develops() IS NOT TRUE THEN
        RAISE insufficient_privilege USING MESSAGE = 'the context does not allow this';
    END IF;
    RETURN mine;
END $$;

-- Kinds, their columns, and how many records there are, counted as far as `most`: of all kinds, or of one.
CREATE FUNCTION overskill_data.catalog(most bigint, counted text)
RETURNS TABLE (entity_type text, access smallint, slots jsonb, columns jsonb, records bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
BEGIN
    RETURN QUERY EXECUTE format('SELECT t.entity_type, t.access, t.slots, t.columns,
            CASE WHEN $3 IS NULL OR $3 = t.entity_type THEN
                (SELECT count(*) FROM (SELECT FROM %1$I.entities e WHERE e.app_id = $1 AND e.entity_type = t.entity_type
                                       AND e.deleted_at IS NULL LIMIT $2) AS found) END
        FROM %1$I.entity_types t WHERE t.app_id = $1 ORDER BY t.entity_type COLLATE "C"', overskill_guard.tables_of(mine))
    USING mine, most, counted;
END $$;

-- Tables in schemas of the app's own, as far as its developers may read them, whether there are records of a kind of that name,
-- too, and their columns.
CREATE FUNCTION overskill_data.own_tables() RETURNS TABLE (place text, name text, is_kind boolean, columns text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
BEGIN
    RETURN QUERY EXECUTE format('SELECT s.schema_name, c.relname::text, EXISTS (SELECT FROM %I.entity_types t
            WHERE t.app_id = $1 AND lower(t.entity_type) = lower(c.relname)),
            ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
        FROM overskill_guard.app_schemas s JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
        WHERE s.app_id = $1 AND c.relkind IN (''r'', ''p'') AND has_table_privilege(''overskill_explorer'', c.oid, ''SELECT'')
        ORDER BY 1, 2', overskill_guard.tables_of(mine)) USING mine;
END $$;

-- Nobody else changes the app's kinds, brings in new ones or writes records, until this transaction ends.
CREATE FUNCTION overskill_data.hold_kinds() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
BEGIN
    PERFORM FROM overskill_guard.apps a WHERE a.app_id = mine FOR UPDATE;
    EXECUTE format('SELECT FROM %I.entity_types t WHERE t.app_id = $1 ORDER BY t.entity_type FOR UPDATE',
                   overskill_guard.tables_of(mine)) USING mine;
END $$;

CREATE FUNCTION overskill_data.create_kind(kind text, fields jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
    kinds bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %I.entity_types t WHERE t.app_id = $1', overskill_guard.tables_of(mine))
    INTO kinds USING mine;
    IF kinds >= 500 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'an app may have at most 500 entities';
    END IF;
    EXECUTE format('INSERT INTO %I.entity_types (app_id, entity_type, columns) VALUES ($1, $2, $3)',
                   overskill_guard.tables_of(mine)) USING mine, kind, fields;
END $$;

CREATE FUNCTION overskill_data.rename_kind(kind text, new_name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
    place text := overskill_guard.tables_of(mine);
BEGIN
    EXECUTE format('INSERT INTO %1$I.entity_types (app_id, entity_type, access, slots, columns)
        SELECT app_id, $3, access, slots, columns FROM %1$I.entity_types WHERE app_id = $1 AND entity_type = $2', place)
    USING mine, kind, new_name;
    -- The trigger moves the records: nobody else could.
    EXECUTE format('UPDATE %I.entity_types SET renamed_to = $3 WHERE app_id = $1 AND entity_type = $2', place)
    USING mine, kind, new_name;
    EXECUTE format('UPDATE %I.entities SET entity_type = $3 WHERE app_id = $1 AND entity_type = $2', place)
    USING mine, kind, new_name;
    EXECUTE format('DELETE FROM %I.entity_types WHERE app_id = $1 AND entity_type = $2', place) USING mine, kind;
END $$;

CREATE FUNCTION overskill_data.drop_kind(kind text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
    place text := overskill_guard.tables_of(mine);
BEGIN
    EXECUTE format('DELETE FROM %I.entities WHERE app_id = $1 AND entity_type = $2', place) USING mine, kind;
    EXECUTE format('DELETE FROM %I.entity_types WHERE app_id = $1 AND entity_type = $2', place) USING mine, kind;
END $$;

CREATE FUNCTION overskill_data.set_fields(kind text, fields jsonb, hot jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
BEGIN
    EXECUTE format('UPDATE %I.entity_types SET columns = $3, slots = $4 WHERE app_id = $1 AND entity_type = $2',
                   overskill_guard.tables_of(mine)) USING mine, kind, fields, hot;
END $$;

-- Changes a field of every record: renames it, drops it (no new name), or, where it is empty, gives it a value.
CREATE FUNCTION overskill_data.change_field(kind text, field text, new_name text, filled jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
    place text := overskill_guard.tables_of(mine);
    changed bigint;
BEGIN
    IF filled IS NOT NULL THEN
        EXECUTE format('UPDATE %I.entities SET data = data || jsonb_build_object($3, overskill_guard.begins_with($4))
            WHERE app_id = $1 AND entity_type = $2 AND deleted_at IS NULL AND coalesce(data -> $3, ''null'') = ''null''', place)
        USING mine, kind, field, filled;
    ELSIF new_name IS NOT NULL THEN
        EXECUTE format('UPDATE %I.entities SET data = data - $3 || jsonb_build_object($4, data -> $3)
            WHERE app_id = $1 AND entity_type = $2 AND data ? $3', place)
        USING mine, kind, field, new_name;
    ELSE
        EXECUTE format('UPDATE %I.entities SET data = data - $3 WHERE app_id = $1 AND entity_type = $2 AND data ? $3', place)
        USING mine, kind, field;
    END IF;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;

-- Columns of their own are filled anew.
CREATE FUNCTION overskill_data.refill(kind text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
BEGIN
    EXECUTE format('UPDATE %I.entities SET access = access WHERE app_id = $1 AND entity_type = $2',
                   overskill_guard.tables_of(mine)) USING mine, kind;
END $$;

-- Records whose field does not fit: how many, and the first ids.
CREATE FUNCTION overskill_data.unfit(kind text, field text, fits text, nullable boolean)
RETURNS TABLE (records bigint, ids text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
BEGIN
    RETURN QUERY EXECUTE format('SELECT count(*), (array_agg(e.id ORDER BY e.placed, e.id))[1:20] FROM %I.entities e
        WHERE e.app_id = $1 AND e.entity_type = $2 AND e.deleted_at IS NULL
          AND CASE WHEN coalesce(e.data -> $3, ''null'') = ''null'' THEN NOT $5
                   ELSE NOT overskill_guard.fits($4, e.data -> $3) END', overskill_guard.tables_of(mine))
    USING mine, kind, field, fits, nullable;
END $$;

CREATE FUNCTION overskill_guard.record_change(app bigint, at_place text, life bigint, plan_id text, who text, what jsonb,
                                              how jsonb, finished boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last record;
BEGIN
    SELECT c.seq, c.incarnation INTO last FROM overskill_guard.schema_changes c
    WHERE c.app_id = app AND c.place = at_place ORDER BY c.seq DESC LIMIT 1;
    INSERT INTO overskill_guard.schema_changes (app_id, place, seq, incarnation, plan, subject, change, steps, steps_done, state)
    VALUES (app, at_place, coalesce(last.seq, 0) + 1, coalesce(last.incarnation, life), plan_id, who, what, how,
            CASE WHEN finished THEN jsonb_array_length(how) ELSE 0 END, CASE WHEN finished THEN 'done' ELSE 'begun' END);
    RETURN coalesce(last.seq, 0) + 1;
END $$;

CREATE FUNCTION overskill_data.record_change(life bigint, plan_id text, what jsonb, how jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN overskill_guard.record_change(overskill_guard.developed(), '', life, plan_id, overskill_guard.subject(), what, how, true);
END $$;

-- What was changed in the shared tables, newest first, before the change of that number.
CREATE FUNCTION overskill_data.schema_changes(before bigint, most bigint) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.developed();
BEGIN
    RETURN QUERY SELECT to_jsonb(c) || jsonb_build_object('at_millis', (extract(epoch FROM c.changed_at) * 1000)::pg_catalog.int8)
        FROM overskill_guard.schema_changes c
        WHERE c.app_id = mine AND c.place = '' AND c.seq < before ORDER BY c.seq DESC LIMIT most;
END $$;

-- Makes a schema that one app is to have, and no other. False if it is another's, or not for apps.
CREATE FUNCTION overskill_guard.claim_schema(place text, of_app text, of_environment text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint;
    it record;
BEGIN
    IF place ~ '^(overskill_|pg_)' OR place IN ('public', 'information_schema', 'auth', 'storage', 'realtime', 'vault', 'extensions',
        'graphql', 'graphql_public', 'supabase_functions', 'supabase_migrations', 'cron', 'net')
    THEN
        RETURN false;
    END IF;
    INSERT INTO overskill_guard.apps (app, environment) VALUES (of_app, of_environment) ON CONFLICT DO NOTHING;
    SELECT a.app_id INTO mine FROM overskill_guard.apps a WHERE a.app = of_app AND a.environment = of_environment;
    PERFORM pg_advisory_xact_lock(hashtextextended('overskill schema ' || place, 1));
    SELECT s.app_id INTO it FROM overskill_guard.app_schemas s WHERE s.schema_name = place;
    IF FOUND AND it.app_id <> mine THEN
        RETURN false;
    ELSIF NOT FOUND AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = to_regnamespace(quote_ident(place))) THEN
        RETURN false;
    END IF;
    INSERT INTO overskill_guard.app_schemas (schema_name, app_id) VALUES (place, mine) ON CONFLICT DO NOTHING;
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', place);
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', place);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO overskill_app, overskill_explorer', place);
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticated') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO authenticated', place);
    END IF;
    RETURN true;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA overskill_guard FROM PUBLIC;
REVOKE ALL ON FUNCTION overskill_data.catalog(bigint, text), overskill_data.own_tables(), overskill_data.hold_kinds(), overskill_data.create_kind(text, jsonb),
    overskill_data.rename_kind(text, text), overskill_data.drop_kind(text), overskill_data.set_fields(text, jsonb, jsonb),
    overskill_data.change_field(text, text, text, jsonb), overskill_data.refill(text),
    overskill_data.unfit(text, text, text, boolean), overskill_data.record_change(bigint, text, jsonb, jsonb),
    overskill_data.schema_changes(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION overskill_data.catalog(bigint, text), overskill_data.hold_kinds(), overskill_data.create_kind(text, jsonb),
    overskill_data.rename_kind(text, text), overskill_data.drop_kind(text), overskill_data.set_fields(text, jsonb, jsonb),
    overskill_data.change_field(text, text, text, jsonb), overskill_data.refill(text),
    overskill_data.unfit(text, text, text, boolean), overskill_data.record_change(bigint, text, jsonb, jsonb),
    overskill_data.schema_changes(bigint, bigint) TO overskill_app;
GRANT EXECUTE ON FUNCTION overskill_data.own_tables() TO overskill_explorer;

ALTER TABLE overskill_guard.app_schemas ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE overskill_guard.schema_changes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY helpers ON overskill_guard.app_schemas TO CURRENT_USER USING (true);
CREATE POLICY helpers ON overskill_guard.schema_changes TO CURRENT_USER USING (true);
