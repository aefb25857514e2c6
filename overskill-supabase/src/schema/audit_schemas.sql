-- Everything that is wrong with the tables of schemas that are one app's, one row each: of all of them, or of the one that
-- $1 names.
WITH own AS (
    SELECT n.oid, n.nspname, n.nspacl, s.app_id FROM overskill_guard.app_schemas s JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name
    WHERE $1::text IS NULL OR s.schema_name = $1
), relations AS (
    SELECT c.*, o.nspname, o.app_id, format('%I.%I', o.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN own o ON o.oid = c.relnamespace
), tenants AS (
    SELECT r.* FROM pg_catalog.pg_roles r WHERE r.rolname IN ('overskill_app', 'overskill_explorer', 'authenticated', 'anon')
), grants AS (
    SELECT r.name, a.grantee, a.privilege_type FROM relations r, aclexplode(r.relacl) a
    UNION ALL SELECT format('%s.%I', r.name, t.attname), a.grantee, a.privilege_type
        FROM relations r JOIN pg_catalog.pg_attribute t ON t.attrelid = r.oid, aclexplode(t.attacl) a
    UNION ALL SELECT o.nspname, a.grantee, a.privilege_type FROM own o, aclexplode(o.nspacl) a
)
SELECT format('table %s has no forced row level security', name) FROM relations
WHERE relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT format('table %s has no restrictive policy for everybody and every command that lets in its app alone', name) FROM relations r
WHERE relkind IN ('r', 'p') AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = r.oid AND NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}'
      AND pg_get_expr(p.polqual, r.oid) = format('(( SELECT overskill_guard.app() AS app) = %s)', r.app_id)
      AND pg_get_expr(p.polwithcheck, r.oid) = format('(( SELECT overskill_guard.app() AS app) = %s)', r.app_id))
UNION ALL
SELECT format('policy %I of table %s lets everybody in', p.polname, r.name) FROM relations r
JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid WHERE p.polpermissive AND p.polroles = '{0}'
UNION ALL
SELECT format('view %s reads with the rights of its owner: set security_invoker', name) FROM relations
WHERE relkind = 'v' AND NOT coalesce(reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false)
UNION ALL
SELECT format('%s knows no row level security: a materialized view or a foreign table', name) FROM relations
WHERE relkind IN ('m', 'f')
UNION ALL
SELECT format('function %I.%I lets temporary objects stand for what it names: set its search_path to pg_catalog, pg_temp', o.nspname, p.proname)
FROM pg_catalog.pg_proc p JOIN own o ON o.oid = p.pronamespace
WHERE p.prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
UNION ALL
SELECT format('everybody has %s on %s', privilege_type, name) FROM grants WHERE grantee = 0
UNION ALL
SELECT format('role %I has %s on %s', t.rolname, g.privilege_type, g.name) FROM grants g JOIN tenants t ON t.oid = g.grantee
WHERE g.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'CREATE', 'MAINTAIN')
   OR (t.rolname = 'overskill_explorer' AND g.privilege_type IN ('INSERT', 'UPDATE', 'DELETE'))
UNION ALL
SELECT format('role %I owns %s', t.rolname, r.name) FROM relations r JOIN tenants t ON t.oid = r.relowner
ORDER BY 1
