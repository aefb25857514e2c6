-- What the project itself answers to visitors of apps, one row each. A token of an app has the role `authenticated`, whoever uses
-- the app, and its holder may ask PostgREST for whatever is in a schema that it shows: those are set outside of the database, so
-- all that the role may use are looked at.
WITH shown AS (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n, pg_catalog.pg_roles r
    WHERE r.rolname = 'authenticated' AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND n.nspname !~ '^(overskill_|pg_)'
      -- Supabase's own, and those of apps.
      AND n.nspname NOT IN ('information_schema', 'auth', 'storage', 'realtime', 'vault', 'extensions', 'graphql', 'graphql_public',
          'supabase_functions', 'supabase_migrations', 'cron', 'net', 'pgsodium', 'pgbouncer', 'pgmq')
      AND NOT EXISTS (SELECT FROM overskill_guard.app_schemas s WHERE s.schema_name = n.nspname)
)
SELECT format('table %I.%I answers visitors of every app: give it a restrictive policy for authenticated, '
              'USING (NOT (SELECT overskill_guard.is_apps())), or keep it in another project', s.nspname, c.relname)
FROM shown s JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
WHERE c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
  AND (has_any_column_privilege('authenticated', c.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege('authenticated', c.oid, 'DELETE'))
  AND (NOT c.relrowsecurity
       OR EXISTS (SELECT FROM pg_catalog.pg_policy p, unnest(p.polroles) to_whom WHERE p.polrelid = c.oid AND p.polpermissive
                  -- Of a group, too, whose rights it inherits.
                  AND CASE to_whom WHEN 0 THEN true ELSE pg_has_role('authenticated', to_whom, 'USAGE') END))
  AND NOT (c.relrowsecurity AND EXISTS (
       SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd = '*'
         AND p.polroles && ARRAY[0, to_regrole('authenticated')::oid] AND p.polwithcheck IS NULL
         AND pg_get_expr(p.polqual, c.oid) = '(NOT ( SELECT overskill_guard.is_apps() AS is_apps))'))
UNION ALL
SELECT format('view %I.%I answers visitors of every app: set security_invoker, revoke it from authenticated, or keep it in another '
              'project', s.nspname, c.relname)
FROM shown s JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
WHERE c.relkind IN ('v', 'm', 'f') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
  AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false)
  AND has_any_column_privilege('authenticated', c.oid, 'SELECT, INSERT, UPDATE')
UNION ALL
SELECT format('function %I.%I(%s) answers visitors of every app: revoke EXECUTE on it from authenticated and PUBLIC, let it refuse them by '
              'overskill_guard.is_apps(), or keep it in another project', s.nspname, p.proname,
              pg_get_function_identity_arguments(p.oid))
FROM shown s JOIN pg_catalog.pg_proc p ON p.pronamespace = s.oid
WHERE p.prokind = 'f' AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
  AND has_function_privilege('authenticated', p.oid, 'EXECUTE') 
  -- What stands in a comment refuses nobody.
  AND regexp_replace(regexp_replace(p.prosrc, '/[*].*?[*]/', '', 'g'), '--[^' || chr(10) || ']*', '', 'g') NOT LIKE '%overskill_guard.is_apps()%'
ORDER BY 1
