-- Tenants' data in one set of tables. Runs in one transaction, as whoever installs it: no superuser is needed.
--
-- overskill_guard: keys, apps, and what decides; no tenant role may use the schema.
-- overskill_data:  what tenants' roles may touch, row by row.

CREATE SCHEMA overskill_data;
REVOKE ALL ON SCHEMA overskill_data FROM PUBLIC;

-- Keys that contexts are signed under, as HMAC's two pads, so that a check costs two hashes.
CREATE TABLE overskill_guard.keys (
    kid text PRIMARY KEY CHECK (kid ~ '^[a-z0-9-]{1,32}$'),
    inner_pad bytea NOT NULL CHECK (octet_length(inner_pad) = 64),
    outer_pad bytea NOT NULL CHECK (octet_length(outer_pad) = 64),
    not_after timestamptz
);

-- What app_id stands for: an app in one environment.
CREATE TABLE overskill_guard.apps (
    app_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app text NOT NULL CHECK (app ~ '^[a-z0-9]{1,32}$'),
    environment text NOT NULL CHECK (environment IN ('development', 'preview', 'staging', 'production')),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    UNIQUE (app, environment)
);

-- Sessions that ended before their contexts did.
CREATE TABLE overskill_guard.revoked (
    session text PRIMARY KEY CHECK (session ~ '^[0-9a-f]{32}$'),
    until timestamptz NOT NULL
);

-- The context of a caller that comes through PostgREST: a claim of its token. Null when it is no JSON.
CREATE FUNCTION overskill_guard.claimed() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
        #>> '{app_metadata,overskill}';
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- The parts of a context whose signature holds now; null on any doubt.
--   1.{kid}.{app}.{environment}.{rights}.{subject, hex}.{session, hex}.{expiry, seconds}.{HMAC-SHA256, hex}
-- What was signed is all before the last dot. No part can hold a dot, so it can be read in one way only, and nothing of it
-- is read before the signature was found to be right. Runs within the functions below, as their owner.
CREATE FUNCTION overskill_guard.opened(context text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[];
    inside bytea;
    outside bytea;
BEGIN
    IF context IS NULL OR pg_catalog.octet_length(context) > 1024
       OR pg_catalog.left(context, 2) <> '1.' OR pg_catalog.left(pg_catalog.right(context, 65), 1) <> '.'
    THEN
        RETURN NULL;
    END IF;
    part := pg_catalog.string_to_array(context, '.');
    SELECT k.inner_pad, k.outer_pad INTO inside, outside FROM overskill_guard.keys k
    WHERE k.kid = part[2] AND (k.not_after IS NULL OR k.not_after > pg_catalog.clock_timestamp())
      AND NOT EXISTS (SELECT FROM overskill_guard.revoked r WHERE r.session = part[7]);
    IF inside IS NULL THEN
        RETURN NULL;
    END IF;
    -- Digests of both are compared, so that the time it takes tells nothing of the right one.
    IF pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.encode(pg_catalog.sha256(outside || pg_catalog.sha256(
           inside || pg_catalog.convert_to(pg_catalog.left(context, -65), 'UTF8'))), 'hex'), 'UTF8'))
       IS DISTINCT FROM pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.right(context, 64), 'UTF8'))
       OR pg_catalog.array_length(part, 1) IS DISTINCT FROM 9
    THEN
        RETURN NULL;
    END IF;
    IF pg_catalog.to_timestamp(part[8]::float8) <= pg_catalog.clock_timestamp() THEN
        RETURN NULL;
    END IF;
    RETURN part;
END $$;

-- The same for the context of this transaction.
CREATE FUNCTION overskill_guard.present() RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN overskill_guard.opened(coalesce(
        nullif(pg_catalog.current_setting('overskill.context', true), ''), overskill_guard.claimed()));
END $$;

-- The app of this transaction, as app_id; null if it has none, or one that is suspended.
CREATE FUNCTION overskill_guard.app() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := overskill_guard.present();
    found_id bigint;
BEGIN
    IF part IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT a.app_id INTO found_id FROM overskill_guard.apps a
    WHERE a.app = part[3] AND a.environment = part[4] AND a.state = 'active';
    RETURN found_id;
END $$;

-- Who acts in this transaction.
CREATE FUNCTION overskill_guard.subject() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN pg_catalog.convert_from(pg_catalog.decode((overskill_guard.present())[6], 'hex'), 'UTF8');
END $$;

-- The same, but null for those who did not sign in: what they own, nobody owns.
CREATE FUNCTION overskill_guard.person() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN nullif(overskill_guard.subject(), 'overskill|visitor');
END $$;

-- Whether this transaction may see the app as its developers do.
CREATE FUNCTION overskill_guard.develops() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (overskill_guard.present())[5] LIKE '%v%';
END $$;

-- Kinds of records, and which of their fields are kept in columns of their own: {"t1": "title", "n1": "priority"}.
-- access: 2 all users of the app read and write, 1 all read and owners write, 0 owners alone.
CREATE TABLE overskill_data.entity_types (
    app_id bigint NOT NULL DEFAULT overskill_guard.app() REFERENCES overskill_guard.apps,
    entity_type text NOT NULL CHECK (entity_type ~ '^[A-Za-z_][A-Za-z0-9_]{0,63}$'),
    access smallint NOT NULL DEFAULT 2 CHECK (access BETWEEN 0 AND 2),
    slots jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(slots) = 'object'),
    PRIMARY KEY (app_id, entity_type)
);

CREATE TABLE overskill_data.entities (
    app_id bigint NOT NULL,
    entity_type text NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (id ~ '^[A-Za-z0-9_.-]{1,64}$'),
    owner text NOT NULL,
    access smallint NOT NULL,
    data jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    -- The order in which they came.
    placed timestamptz NOT NULL DEFAULT clock_timestamp(),
    t1 text COLLATE "C", t2 text COLLATE "C", t3 text COLLATE "C",
    n1 float8, n2 float8, n3 float8,
    PRIMARY KEY (app_id, entity_type, id),
    FOREIGN KEY (app_id, entity_type) REFERENCES overskill_data.entity_types
);
CREATE INDEX entities_in_order ON overskill_data.entities (app_id, entity_type, placed, id);
CREATE INDEX entities_by_t1 ON overskill_data.entities (app_id, entity_type, t1) WHERE t1 IS NOT NULL;
CREATE INDEX entities_by_t2 ON overskill_data.entities (app_id, entity_type, t2) WHERE t2 IS NOT NULL;
CREATE INDEX entities_by_t3 ON overskill_data.entities (app_id, entity_type, t3) WHERE t3 IS NOT NULL;
CREATE INDEX entities_by_n1 ON overskill_data.entities (app_id, entity_type, n1) WHERE n1 IS NOT NULL;
CREATE INDEX entities_by_n2 ON overskill_data.entities (app_id, entity_type, n2) WHERE n2 IS NOT NULL;
CREATE INDEX entities_by_n3 ON overskill_data.entities (app_id, entity_type, n3) WHERE n3 IS NOT NULL;

-- The planner would tell anybody who may ask for a plan how common a value is, in all apps together. It keeps no
-- statistics here; every statement has its index.
DO $$
DECLARE
    of record;
BEGIN
    FOR of IN SELECT a.attrelid::regclass AS rel, a.attname AS col FROM pg_catalog.pg_attribute a
        WHERE a.attrelid IN ('overskill_data.entities'::regclass, 'overskill_data.entity_types'::regclass)
          AND a.attnum > 0 AND NOT a.attisdropped
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', of.rel, of.col);
    END LOOP;
END $$;

-- Refuses a record that could be written and not be read: its writer may have come past the library, by PostgREST, and who
-- lists the kind would fail at it. A body of 262144 bytes has up to half as much again here, by a blank after each comma.
CREATE FUNCTION overskill_guard.readable(given jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- As numbers first: a few signs may stand for thousands of digits. The very largest that 64 bits hold are left out, for
    -- a reader that rounds on the way takes them for more.
    IF EXISTS (SELECT FROM pg_catalog.jsonb_path_query(given, 'strict $.** ? (@.type() == "number")') n
               WHERE pg_catalog.abs(n::numeric) > 1.79769313486231e308 OR pg_catalog.scale(n::numeric) > 400)
    THEN
        RAISE numeric_value_out_of_range USING MESSAGE = 'a number in a record must be one of 64 bits, with at most 400 digits after the point';
    ELSIF pg_catalog.octet_length(given::text) > 393216 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'a record may have at most 262144 bytes';
    END IF;
END $$;

-- Fills in what a writer has no say in, in the tables of every schema: an app writes where its tables are, and not while they
-- are copied. What it asks of placements comes with them.
CREATE FUNCTION overskill_guard.entity_written() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- As `moving` has it, without the price of a call for each row.
    moves CONSTANT boolean := pg_catalog.current_setting('overskill.moving', true) = 'on' AND session_user = current_user;
    part text[];
    slots jsonb;
    given jsonb;
    kinds bigint;
BEGIN
    IF moves THEN
        -- It stays as it was at the other place, if it can have been written there: that may be a customer's own database.
        IF NEW.owner !~ '^[A-Za-z0-9._:@|+=-]{1,128}$' OR NEW.access NOT BETWEEN 0 AND 2 THEN
            RAISE invalid_parameter_value USING MESSAGE = 'a record has an owner of 1 to 128 bytes, and access is 0 to 2';
        END IF;
    ELSIF TG_OP = 'UPDATE' THEN
        NEW.app_id := OLD.app_id;
        NEW.entity_type := OLD.entity_type;
        NEW.id := OLD.id;
        NEW.owner := OLD.owner;
        NEW.created_at := OLD.created_at;
        NEW.placed := OLD.placed;
    ELSE
        -- Whatever was named: a refusal, or what is looked up below, would tell of another app.
        part := overskill_guard.present();
        NEW.app_id := (SELECT a.app_id FROM overskill_guard.apps a
                       WHERE a.app = part[3] AND a.environment = part[4] AND a.state = 'active');
        IF NEW.app_id IS NULL THEN
            RAISE insufficient_privilege USING MESSAGE = 'there is no tenant here';
        END IF;
        NEW.owner := pg_catalog.convert_from(pg_catalog.decode(part[6], 'hex'), 'UTF8');
    END IF;
    IF NOT moves THEN
        PERFORM overskill_guard.writable(NEW.app_id, TG_TABLE_SCHEMA);
    END IF;
    IF TG_OP = 'INSERT' OR NEW.data IS DISTINCT FROM OLD.data THEN
        PERFORM overskill_guard.readable(NEW.data);
    END IF;
    -- `infinity` is a time to the database alone.
    IF least(NEW.created_at, NEW.updated_at, NEW.deleted_at, NEW.placed) < '0001-01-01 00:00:00+00'::timestamptz
       OR greatest(NEW.created_at, NEW.updated_at, NEW.deleted_at, NEW.placed) >= '9999-01-01 00:00:00+00'::timestamptz
    THEN
        RAISE datetime_field_overflow USING MESSAGE = 'times of a record must be of the years 1 to 9998';
    END IF;
    IF moves THEN
        RETURN NEW;
    END IF;
    IF TG_TABLE_SCHEMA = 'overskill_data' THEN
        SELECT t.access, t.slots INTO NEW.access, slots FROM overskill_data.entity_types t
        WHERE t.app_id = NEW.app_id AND t.entity_type = NEW.entity_type;
    ELSE
        EXECUTE pg_catalog.format('SELECT t.access, t.slots FROM %I.entity_types t
            WHERE t.app_id = $1 AND t.entity_type = $2', TG_TABLE_SCHEMA)
        INTO NEW.access, slots USING NEW.app_id, NEW.entity_type;
    END IF;
    IF slots IS NULL THEN
        EXECUTE pg_catalog.format('SELECT pg_catalog.count(*) FROM %I.entity_types t WHERE t.app_id = $1', TG_TABLE_SCHEMA)
        INTO kinds USING NEW.app_id;
        IF kinds >= 500 THEN
            RAISE program_limit_exceeded USING MESSAGE = 'an app may have at most 500 entities';
        END IF;
        EXECUTE pg_catalog.format('INSERT INTO %I.entity_types (app_id, entity_type) VALUES ($1, $2)
            ON CONFLICT DO NOTHING', TG_TABLE_SCHEMA) USING NEW.app_id, NEW.entity_type;
        NEW.access := 2;
        slots := '{}';
    END IF;
    IF slots = '{}' AND TG_OP = 'INSERT' THEN
        RETURN NEW;
    END IF;
    given := NEW.data -> (slots ->> 't1');
    NEW.t1 := CASE pg_catalog.jsonb_typeof(given) WHEN 'string' THEN pg_catalog.left(given #>> '{}', 200) END;
    given := NEW.data -> (slots ->> 't2');
    NEW.t2 := CASE pg_catalog.jsonb_typeof(given) WHEN 'string' THEN pg_catalog.left(given #>> '{}', 200) END;
    given := NEW.data -> (slots ->> 't3');
    NEW.t3 := CASE pg_catalog.jsonb_typeof(given) WHEN 'string' THEN pg_catalog.left(given #>> '{}', 200) END;
    given := NEW.data -> (slots ->> 'n1');
    NEW.n1 := CASE pg_catalog.jsonb_typeof(given) WHEN 'number' THEN (given #>> '{}')::float8 END;
    given := NEW.data -> (slots ->> 'n2');
    NEW.n2 := CASE pg_catalog.jsonb_typeof(given) WHEN 'number' THEN (given #>> '{}')::float8 END;
    given := NEW.data -> (slots ->> 'n3');
    NEW.n3 := CASE pg_catalog.jsonb_typeof(given) WHEN 'number' THEN (given #>> '{}')::float8 END;
    RETURN NEW;
END $$;

CREATE TRIGGER entity_written BEFORE INSERT OR UPDATE ON overskill_data.entities
FOR EACH ROW EXECUTE FUNCTION overskill_guard.entity_written();

-- Gives the app of a context its number. Only a signed context can bring a new app in.
CREATE FUNCTION overskill_data.enter(context text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := overskill_guard.opened(context);
BEGIN
    IF part IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO overskill_guard.apps (app, environment) VALUES (part[3], part[4]) ON CONFLICT DO NOTHING;
    RETURN true;
END $$;

-- Says who may use a kind of records and which fields have columns of their own. For developers of the app.
CREATE FUNCTION overskill_data.define(kind text, who smallint, fields jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine bigint := overskill_guard.app();
    place text := overskill_guard.tables_of(mine);
    slot record;
    others bigint;
BEGIN
    IF mine IS NULL OR overskill_guard.develops() IS NOT TRUE THEN
        RAISE insufficient_privilege USING MESSAGE = 'the context does not allow this';
    END IF;
    FOR slot IN SELECT f.key, f.value FROM pg_catalog.jsonb_each_text(fields) f LOOP
        IF slot.key !~ '^[tn][1-3]$' OR slot.value !~ '^[A-Za-z_][A-Za-z0-9_]{0,63}$' THEN
            RAISE invalid_parameter_value USING MESSAGE = 'slots are t1 to t3 and n1 to n3, each with the name of a field';
        END IF;
    END LOOP;
    EXECUTE pg_catalog.format('SELECT pg_catalog.count(*) FROM %I.entity_types t WHERE t.app_id = $1 AND t.entity_type <> $2', place)
    INTO others USING mine, kind;
    IF others >= 500 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'an app may have at most 500 entities';
    END IF;
    EXECUTE pg_catalog.format('INSERT INTO %I.entity_types AS t (app_id, entity_type, access, slots) VALUES ($1, $2, $3, $4)
        ON CONFLICT (app_id, entity_type) DO UPDATE SET access = excluded.access, slots = excluded.slots', place)
    USING mine, kind, who, fields;
    -- The trigger fills in the rest.
    EXECUTE pg_catalog.format('UPDATE %I.entities e SET access = $1 WHERE e.app_id = $2 AND e.entity_type = $3', place)
    USING who, mine, kind;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA overskill_guard, overskill_data FROM PUBLIC;

-- Every table, whoever owns it: forced, and closed unless a policy opens it.
ALTER TABLE overskill_guard.keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE overskill_guard.apps ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE overskill_guard.revoked ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE overskill_data.entity_types ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE overskill_data.entities ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY helpers ON overskill_guard.keys TO CURRENT_USER USING (true);
CREATE POLICY helpers ON overskill_guard.apps TO CURRENT_USER USING (true);
CREATE POLICY helpers ON overskill_guard.revoked TO CURRENT_USER USING (true);

-- For everybody, the owner too: rows of the signed app alone. No later policy can widen it.
CREATE POLICY app ON overskill_data.entity_types AS RESTRICTIVE TO PUBLIC
    USING (app_id = (SELECT overskill_guard.app())) WITH CHECK (app_id = (SELECT overskill_guard.app()));
CREATE POLICY app ON overskill_data.entities AS RESTRICTIVE TO PUBLIC
    USING (app_id = (SELECT overskill_guard.app())) WITH CHECK (app_id = (SELECT overskill_guard.app()));
CREATE POLICY helpers ON overskill_data.entity_types TO CURRENT_USER USING (true);
CREATE POLICY helpers ON overskill_data.entities TO CURRENT_USER USING (true);

CREATE POLICY explored ON overskill_data.entity_types FOR SELECT TO overskill_explorer
    USING ((SELECT overskill_guard.develops()));
CREATE POLICY explored ON overskill_data.entities FOR SELECT TO overskill_explorer
    USING ((SELECT overskill_guard.develops()));
GRANT USAGE ON SCHEMA overskill_data TO overskill_explorer;
GRANT SELECT ON overskill_data.entities, overskill_data.entity_types TO overskill_explorer;
GRANT EXECUTE ON FUNCTION overskill_guard.app(), overskill_guard.develops() TO overskill_explorer;

-- Tenants: the pool's own role, and PostgREST's where there is one.
DO $$
DECLARE
    tenants text := 'overskill_app';
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticated') THEN
        tenants := tenants || ', authenticated';
    END IF;
    EXECUTE format($policies$
        CREATE POLICY known ON overskill_data.entity_types FOR SELECT TO %1$s USING (true);
        CREATE POLICY seen ON overskill_data.entities FOR SELECT TO %1$s
            USING (access >= 1 OR owner = (SELECT overskill_guard.person()));
        CREATE POLICY made ON overskill_data.entities FOR INSERT TO %1$s
            WITH CHECK (owner = (SELECT overskill_guard.subject())
                        AND (access = 2 OR owner = (SELECT overskill_guard.person())));
        CREATE POLICY changed ON overskill_data.entities FOR UPDATE TO %1$s
            USING (access = 2 OR owner = (SELECT overskill_guard.person()))
            WITH CHECK (access = 2 OR owner = (SELECT overskill_guard.person()));
        GRANT USAGE ON SCHEMA overskill_data TO %1$s;
        GRANT SELECT ON overskill_data.entity_types, overskill_data.entities TO %1$s;
        GRANT INSERT (entity_type, id, data, created_at, updated_at) ON overskill_data.entities TO %1$s;
        GRANT UPDATE (data, updated_at, deleted_at) ON overskill_data.entities TO %1$s;
        GRANT EXECUTE ON FUNCTION overskill_guard.app(), overskill_guard.subject(), overskill_guard.person() TO %1$s;
    $policies$, tenants);
END $$;
GRANT EXECUTE ON FUNCTION overskill_data.define(text, smallint, jsonb) TO overskill_app;
GRANT EXECUTE ON FUNCTION overskill_data.enter(text) TO overskill_app, overskill_explorer;
