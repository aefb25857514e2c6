-- Everything that is wrong with the walls, one row each. Empty means that they stand.
WITH ours AS (
    SELECT oid, nspname, nspacl, nspowner FROM pg_catalog.pg_namespace WHERE nspname IN ('overskill_data', 'overskill_guard') OR nspname LIKE 'overskill\_app\_%'
), relations AS (
    SELECT c.*, o.nspname, format('%I.%I', o.nspname, c.relname) AS name FROM pg_catalog.pg_class c JOIN ours o ON o.oid = c.relnamespace
), functions AS (
    SELECT p.*, format('%I.%I', o.nspname, p.proname) AS name FROM pg_catalog.pg_proc p JOIN ours o ON o.oid = p.pronamespace
), policies AS (
    -- With the name of the schema taken out, so that those of all apps' own schemas are the same as the shared ones.
    SELECT r.oid AS rel, r.name, r.nspname, r.relname, p.polname, p.polpermissive, p.polcmd,
        ARRAY(SELECT unnest(p.polroles) ORDER BY 1) AS polroles,
        replace(pg_get_expr(p.polqual, r.oid), quote_literal(r.nspname), '''''') AS sees,
        replace(pg_get_expr(p.polwithcheck, r.oid), quote_literal(r.nspname), '''''') AS writes
    FROM relations r JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid
), own AS (
    SELECT r.* FROM relations r WHERE r.nspname LIKE 'overskill\_app\_%'
), tenants AS (
    SELECT r.* FROM pg_catalog.pg_roles r WHERE r.rolname IN ('overskill_app', 'overskill_explorer', 'authenticated', 'anon')
), grants AS (
    SELECT r.name, a.grantee, a.privilege_type FROM relations r, aclexplode(r.relacl) a
    UNION ALL SELECT format('%s.%I', r.name, t.attname), a.grantee, a.privilege_type
        FROM relations r JOIN pg_catalog.pg_attribute t ON t.attrelid = r.oid, aclexplode(t.attacl) a
    UNION ALL SELECT o.nspname, a.grantee, a.privilege_type FROM ours o, aclexplode(o.nspacl) a
    UNION ALL SELECT f.name, a.grantee, a.privilege_type
        FROM functions f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
)
SELECT format('table %s has no forced row level security', name) FROM relations
WHERE relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT format('view %s reads with the rights of its owner: set security_invoker', name) FROM relations
WHERE relkind = 'v' AND NOT coalesce(reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false)
UNION ALL
SELECT format('%s knows no row level security: a materialized view or a foreign table', name) FROM relations
WHERE relkind IN ('m', 'f')
UNION ALL
SELECT format('table %s has no restrictive policy for everybody and every command that compares app_id', name) FROM relations r
WHERE relkind IN ('r', 'p') AND nspname <> 'overskill_guard' AND NOT EXISTS (
    SELECT FROM policies p WHERE p.rel = r.oid AND NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}' AND p.sees = p.writes
      AND p.sees IN ('(app_id = ( SELECT overskill_guard.app() AS app))',
                     '(app_id = ( SELECT overskill_guard.app_in(''''::text) AS app_in))'))
UNION ALL
SELECT format('table %s of one app has no checked constraint that says which', name) FROM own r
WHERE relkind = 'r' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint c JOIN overskill_guard.apps a
        ON pg_get_constraintdef(c.oid) = format('CHECK ((app_id = %L::bigint))', a.app_id)
    WHERE c.conrelid = r.oid AND c.contype = 'c' AND c.convalidated
      AND (a.home = r.nspname OR EXISTS (SELECT FROM overskill_guard.moves m
                                         WHERE m.app_id = a.app_id AND r.nspname IN (m.source, m.target))))
UNION ALL
SELECT format('policy %I of table %s is not that of the shared table', p.polname, p.name) FROM policies p
WHERE p.nspname LIKE 'overskill\_app\_%' AND NOT EXISTS (
    SELECT FROM policies s WHERE s.nspname = 'overskill_data' AND (s.relname, s.polname, s.polpermissive, s.polcmd, s.polroles)
        = (p.relname, p.polname, p.polpermissive, p.polcmd, p.polroles)
      AND s.sees IS NOT DISTINCT FROM p.sees AND s.writes IS NOT DISTINCT FROM p.writes)
UNION ALL
SELECT format('table %s lacks policy %I of the shared table', r.name, s.polname) FROM own r
JOIN policies s ON s.nspname = 'overskill_data' AND s.relname = r.relname
WHERE r.relkind = 'r' AND NOT EXISTS (SELECT FROM policies p WHERE p.rel = r.oid AND p.polname = s.polname)
UNION ALL
SELECT format('table %s lets writes pass that a move has paused: it lacks trigger entity_written or kind_written', r.name)
FROM relations r WHERE r.nspname <> 'overskill_guard' AND r.relkind = 'r' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = r.oid AND t.tgenabled IN ('O', 'A') AND t.tgtype & 23 = 23
      AND t.tgfoid IN ('overskill_guard.entity_written()'::regprocedure, 'overskill_guard.kind_written()'::regprocedure))
UNION ALL
SELECT format('role %s has %s on %s, which belongs to one app', coalesce(quote_ident(r.rolname), 'PUBLIC'), g.privilege_type, g.name)
FROM grants g LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
WHERE g.name LIKE 'overskill\_app\_%' AND coalesce(r.rolname, '') NOT IN ('overskill_app', 'overskill_explorer', 'authenticated')
  AND g.grantee NOT IN (SELECT nspowner FROM ours)
UNION ALL
SELECT format('default privileges would give away what is made in schema %I', o.nspname) FROM pg_catalog.pg_default_acl d
JOIN ours o ON o.oid = d.defaclnamespace
UNION ALL
SELECT format('the tables of app %s in %s are to be in schema %I, which is not there', a.app, a.environment, a.home)
FROM overskill_guard.apps a WHERE to_regnamespace(a.home) IS NULL AND a.home IS NOT NULL
UNION ALL
SELECT format('policy %I of table %s lets everybody in', p.polname, r.name) FROM relations r
JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid WHERE p.polpermissive AND p.polroles = '{0}'
UNION ALL
SELECT format('policy %I of table %s is for role %I', p.polname, r.name, t.rolname) FROM relations r
JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid JOIN tenants t ON t.oid = ANY (p.polroles)
WHERE r.nspname = 'overskill_guard'
UNION ALL
SELECT format('function %s lets temporary objects stand for what it names: set its search_path to pg_catalog, pg_temp', name) FROM functions
WHERE (prosecdef OR EXISTS (SELECT FROM unnest(proconfig) s WHERE s LIKE 'search\_path=%'))
  AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)
UNION ALL
SELECT format('everybody has %s on %s', privilege_type, name) FROM grants WHERE grantee = 0
UNION ALL
SELECT format('role %I has %s on %s', t.rolname, g.privilege_type, g.name) FROM grants g JOIN tenants t ON t.oid = g.grantee
WHERE g.privilege_type IN ('DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'CREATE', 'MAINTAIN')
   OR (g.name IN (SELECT name FROM relations WHERE nspname = 'overskill_guard') OR g.name = 'overskill_guard')
   OR (t.rolname = 'overskill_explorer' AND g.privilege_type IN ('INSERT', 'UPDATE'))
UNION ALL
SELECT format('role %I has UPDATE or INSERT on whole tables: %s', t.rolname, r.name) FROM relations r, aclexplode(r.relacl) a
JOIN tenants t ON t.oid = a.grantee WHERE a.privilege_type IN ('INSERT', 'UPDATE')
UNION ALL
SELECT format('role %I may make temporary objects, which the next tenant meets on the same connection: REVOKE TEMPORARY ON DATABASE %I FROM %s',
    t.rolname, d.datname, (SELECT string_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ', ')
        FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        WHERE a.privilege_type = 'TEMPORARY' AND CASE a.grantee WHEN 0 THEN true ELSE pg_has_role(t.oid, a.grantee, 'USAGE') END))
FROM tenants t JOIN pg_catalog.pg_database d ON d.datname = current_database()
WHERE NOT t.rolsuper AND pg_has_role(d.datdba, 'USAGE') AND has_database_privilege(t.oid, d.oid, 'TEMPORARY')
UNION ALL
SELECT format('role %I is a superuser or bypasses row level security', rolname) FROM tenants WHERE rolsuper OR rolbypassrls
UNION ALL
SELECT format('role %I may make roles or databases', rolname) FROM tenants WHERE rolcreaterole OR rolcreatedb
UNION ALL
SELECT format('role %I belongs to role %I', t.rolname, g.rolname) FROM pg_catalog.pg_auth_members m
JOIN tenants t ON t.oid = m.member JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE t.rolname LIKE 'overskill%'
UNION ALL
SELECT format('role %I owns %s', t.rolname, r.name) FROM relations r JOIN tenants t ON t.oid = r.relowner
UNION ALL
SELECT format('role %I owns function %s', t.rolname, f.name) FROM functions f JOIN tenants t ON t.oid = f.proowner
UNION ALL
SELECT format('column %s.%I has statistics, which tell of values of all apps', r.name, a.attname) FROM relations r
JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid
WHERE r.nspname <> 'overskill_guard' AND r.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget IS DISTINCT FROM 0
UNION ALL
SELECT format('role %I may use schema %s, which is the platform''s', r.rolname, s.name) FROM pg_catalog.pg_roles r,
    (VALUES ('overskill_records'), ('overskill_members')) s (name)
WHERE r.rolname IN ('overskill_app', 'overskill_explorer', 'authenticated', 'anon', 'service_role')
  AND has_schema_privilege(r.oid, to_regnamespace(s.name)::oid, 'USAGE')
UNION ALL
SELECT format('table %s does not keep apps apart: install the schema again', s.name) FROM (VALUES ('storage.objects'), ('realtime.messages')) s (name)
WHERE to_regclass(s.name) IS NOT NULL AND to_regrole('authenticated') IS NOT NULL AND to_regrole('anon') IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_policy p ON p.polrelid = c.oid, pg_get_expr(p.polqual, c.oid) AS expression
    WHERE c.oid = to_regclass(s.name) AND c.relrowsecurity AND NOT p.polpermissive AND p.polcmd = '*' AND p.polwithcheck IS NULL
      AND p.polroles @> ARRAY[to_regrole('authenticated')::oid, to_regrole('anon')::oid]
      AND expression LIKE '%= ( SELECT overskill_guard.place() AS place))%' AND expression LIKE '%ELSE (NOT ( SELECT overskill_guard.is_apps() AS is_apps))%')
UNION ALL
SELECT format('there are %s policies: they may not grow with the number of apps', count(*))
FROM (SELECT DISTINCT CASE WHEN nspname LIKE 'overskill\_app\_%' THEN 'overskill_data' ELSE nspname END, relname, polname,
             polpermissive, polcmd, polroles::text, sees, writes FROM policies) p HAVING count(*) >= 100
ORDER BY 1
