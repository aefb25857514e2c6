-- What the gateway asks of apps' records through PostgREST, as the caller and with no right but the caller's: row level
-- security decides, as for each statement of theirs, in the shared tables and in those of an app's own schema. Fields come
-- as text and records go as JSON of the database's own, so that no number is read as another on the way. The rules are those
-- of the entity API, and so are the answers.

-- Refuses a caller whose context does not hold, and one whose app is suspended: what they may not see must not look like an
-- app without data. PostgREST answers 401 to the one, and 403 to the other.
CREATE FUNCTION overskill_data.admitted() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := overskill_guard.present();
BEGIN
    IF part IS NULL THEN
        RAISE SQLSTATE 'PT401' USING MESSAGE = 'the context does not hold';
    ELSIF EXISTS (SELECT FROM overskill_guard.apps a
        WHERE a.app = part[3] AND a.environment = part[4] AND a.state <> 'active')
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'the app is suspended';
    END IF;
    RETURN true;
END $$;

-- The schema with the caller's records: the shared one, or that of the app. PostgREST answers 421 for an app whose records are
-- in another database.
CREATE FUNCTION overskill_data.served_from() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := overskill_guard.present();
    it record;
BEGIN
    PERFORM overskill_data.admitted();
    SELECT a.home INTO it FROM overskill_guard.apps a WHERE a.app = part[3] AND a.environment = part[4];
    IF NOT FOUND THEN
        RETURN 'overskill_data'; -- where every app begins
    ELSIF it.home IS NULL THEN
        RAISE SQLSTATE 'PT421' USING MESSAGE = 'the app has its data in another database';
    END IF;
    RETURN it.home;
END $$;

-- Null when the id is taken.
CREATE FUNCTION overskill_data.make_record(kind text, id text, fields text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place CONSTANT text := overskill_data.served_from();
    given CONSTANT jsonb := fields::jsonb - '{id,created_at,updated_at}'::text[];
    made jsonb;
BEGIN
    EXECUTE format($sql$
        INSERT INTO %I.entities AS e (entity_type, id, data, created_at, updated_at)
        VALUES ($1, $2, $3, date_trunc('milliseconds', now()), date_trunc('milliseconds', now()))
        ON CONFLICT DO NOTHING
        RETURNING e.data || jsonb_build_object('id', e.id,
            'created_at', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'updated_at', to_char(e.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        $sql$, place) INTO made USING kind, id, given;
    RETURN made;
END $$;

-- Null when there is none.
CREATE FUNCTION overskill_data.read_record(kind text, id text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found jsonb;
BEGIN
    EXECUTE format($sql$
        SELECT e.data || jsonb_build_object('id', e.id,
            'created_at', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'updated_at', to_char(e.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        FROM %I.entities e WHERE e.entity_type = $1 AND e.id = $2 AND e.deleted_at IS NULL
        $sql$, overskill_data.served_from()) INTO found USING kind, id;
    RETURN found;
END $$;

-- Replaces the fields; with `merges`, only those that are given, and those that are null go. Null when there is none.
CREATE FUNCTION overskill_data.change_record(kind text, id text, fields text, merges text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place CONSTANT text := overskill_data.served_from();
    given jsonb := fields::jsonb - '{id,created_at,updated_at}'::text[];
    was jsonb;
    changed jsonb;
BEGIN
    EXECUTE format('SELECT e.data FROM %I.entities e WHERE e.entity_type = $1 AND e.id = $2 AND e.deleted_at IS NULL
        FOR NO KEY UPDATE', place) INTO was USING kind, id;
    IF was IS NULL THEN
        RETURN NULL;
    END IF;
    IF merges = 'true' THEN
        given := (was || given) - ARRAY(SELECT f.key FROM jsonb_each(given) f WHERE f.value = 'null'::jsonb);
        IF octet_length(given::text) > 262144 THEN
            RAISE program_limit_exceeded USING MESSAGE = 'a record may have at most 262144 bytes';
        END IF;
    END IF;
    EXECUTE format($sql$
        UPDATE %I.entities e SET data = $3, updated_at = greatest(e.updated_at, date_trunc('milliseconds', now()))
        WHERE e.entity_type = $1 AND e.id = $2
        RETURNING e.data || jsonb_build_object('id', e.id,
            'created_at', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'updated_at', to_char(e.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        $sql$, place) INTO changed USING kind, id, given;
    RETURN changed;
END $$;

-- Whether there was one. Its id stays taken.
CREATE FUNCTION overskill_data.delete_record(kind text, id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    EXECUTE format('UPDATE %I.entities e SET deleted_at = now()
        WHERE e.entity_type = $1 AND e.id = $2 AND e.deleted_at IS NULL', overskill_data.served_from()) USING kind, id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone > 0;
END $$;

-- A page: {"items": […], "next": …}. `asked` is JSON: limit, offset, cursor, descending, sort (created, updated, id or field),
-- field, and filters, each a name, a value, and that as a number if it is one.
CREATE FUNCTION overskill_data.list_records(kind text, asked text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place CONSTANT text := overskill_data.served_from();
    ask CONSTANT jsonb := asked::jsonb;
    most CONSTANT integer := least(greatest((ask ->> 'limit')::integer, 1), 1000);
    down CONSTANT boolean := (ask ->> 'descending')::boolean;
    cursor CONSTANT text := ask ->> 'cursor';
    hot jsonb;
    it jsonb;
    slot text;
    is_a text;
    as_text text;
    as_number text;
    wanted text := '';
    places text[];
    part text[];
    found record;
    items jsonb[] := '{}';
    bytes bigint := 0;
    last text;
    more boolean := false;
BEGIN
    EXECUTE format('SELECT t.slots FROM %I.entity_types t WHERE t.entity_type = $1', place) INTO hot USING kind;
    FOR it IN SELECT f.value FROM jsonb_array_elements(ask -> 'filters') f LOOP
        IF it ->> 0 = 'id' THEN
            wanted := wanted || format(' AND id = %L', it ->> 1);
            CONTINUE;
        END IF;
        slot := (SELECT f.key FROM jsonb_each_text(hot) f WHERE f.value = it ->> 0 ORDER BY f.key LIMIT 1);
        is_a := format('jsonb_typeof(data -> %L)', it ->> 0);
        as_text := format('(%s = ''string'' AND data ->> %L = %L)', is_a, it ->> 0, it ->> 1);
        -- The cast is made of numbers alone: a condition may be evaluated before the one that stands before it.
        as_number := format('CASE WHEN %s = ''number'' THEN (data ->> %L)::numeric = %L::numeric ELSE false END',
                            is_a, it ->> 0, it ->> 2);
        -- With a column of its own, the index finds the rows and the condition looks at them once more.
        wanted := wanted || ' AND ' || CASE
            WHEN slot ~ '^n' AND it ->> 2 IS NOT NULL THEN format('%I = %L::float8 AND %s', slot, it ->> 2, as_number)
            WHEN slot ~ '^t' THEN format('%I = left(%L, 200) AND %s', slot, it ->> 1, as_text)
            WHEN it ->> 2 IS NOT NULL THEN format('(%s OR %s)', as_text, as_number)
            WHEN it ->> 1 IN ('true', 'false') THEN format('(%s OR data -> %L = %L::jsonb)', as_text, it ->> 0, it ->> 1)
            WHEN it ->> 1 = 'null' THEN format('(%s OR %s = ''null'' OR %2$s IS NULL)', as_text, is_a)
            ELSE as_text END;
    END LOOP;
    places := CASE ask ->> 'sort'
        WHEN 'updated' THEN '{updated_at,placed,id}'::text[]
        WHEN 'id' THEN '{id}'::text[]
        WHEN 'field' THEN ARRAY[
            -- Those without it first, then numbers, then text, byte by byte.
            format('CASE jsonb_typeof(data -> %1$L) WHEN ''number'' THEN 1 WHEN ''boolean'' THEN 1 WHEN ''null'' THEN 0 '
                   'ELSE CASE WHEN data -> %1$L IS NULL THEN 0 ELSE 2 END END', ask ->> 'field'),
            format('CASE jsonb_typeof(data -> %1$L) WHEN ''number'' THEN (data ->> %1$L)::numeric '
                   'WHEN ''boolean'' THEN (data ->> %1$L)::boolean::int::numeric ELSE 0 END', ask ->> 'field'),
            format('(CASE WHEN jsonb_typeof(data -> %1$L) IN (''string'', ''object'', ''array'') THEN data ->> %1$L '
                   'ELSE '''' END) COLLATE "C"', ask ->> 'field'),
            'placed', 'id']
        ELSE '{placed,id}'::text[] END;
    IF cursor IS NOT NULL AND ask ->> 'sort' = 'updated' THEN
        part := regexp_match(cursor, '^u([0-9]{1,18})[.]([0-9]{1,18})[.](.*)$');
        wanted := wanted || format(' AND (updated_at, placed, id) %s (timestamptz ''epoch'' + %L * interval ''1 microsecond'', '
            'timestamptz ''epoch'' + %L * interval ''1 microsecond'', %L)',
            CASE WHEN down THEN '<' ELSE '>' END, part[1], part[2], part[3]);
    ELSIF cursor IS NOT NULL THEN
        -- Rows are never removed, so the row itself says where it stood.
        wanted := wanted || format(' AND (%s) %s (SELECT %1$s FROM %5$I.entities WHERE entity_type = %3$L AND id = %4$L)',
            array_to_string(places, ', '), CASE WHEN down THEN '<' ELSE '>' END, kind, substr(cursor, 2), place);
    END IF;
    FOR found IN EXECUTE format('SELECT id, data, octet_length(data::text) AS size, created_at, updated_at, placed
        FROM %I.entities WHERE entity_type = %L AND deleted_at IS NULL%s ORDER BY %s LIMIT %s OFFSET %s',
        place, kind, wanted, array_to_string(places, CASE WHEN down THEN ' DESC, ' ELSE ', ' END)
            || CASE WHEN down THEN ' DESC' ELSE '' END,
        most + 1, greatest((ask ->> 'offset')::bigint, 0))
    LOOP
        IF cardinality(items) = most OR (cardinality(items) > 0 AND bytes + found.size > 8388608) THEN
            more := true;
            EXIT;
        END IF;
        bytes := bytes + found.size;
        items := items || (found.data || jsonb_build_object('id', found.id,
            'created_at', to_char(found.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'updated_at', to_char(found.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')));
        last := CASE ask ->> 'sort'
            WHEN 'updated' THEN 'u' || (extract(epoch FROM found.updated_at) * 1000000)::bigint || '.'
                || (extract(epoch FROM found.placed) * 1000000)::bigint || '.' || found.id
            ELSE 'r' || found.id END;
    END LOOP;
    RETURN jsonb_build_object('items', to_jsonb(items), 'next', CASE WHEN more THEN last END);
END $$;

REVOKE ALL ON FUNCTION overskill_data.make_record(text, text, text), overskill_data.read_record(text, text),
    overskill_data.change_record(text, text, text, text), overskill_data.delete_record(text, text),
    overskill_data.list_records(text, text), overskill_data.admitted(), overskill_data.served_from() FROM PUBLIC;
