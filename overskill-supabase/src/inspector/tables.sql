-- The tables of a schema, each as JSON. $1: the schema's name.
SELECT jsonb_build_object(
    'name', c.relname,
    'rows', CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END,
    'bytes', CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_total_relation_size(c.oid) END,
    'row_security', CASE WHEN NOT c.relrowsecurity THEN 'off' WHEN c.relforcerowsecurity THEN 'forced' ELSE 'on' END,
    'columns', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', a.attname,
            'sql_type', pg_catalog.format_type(a.atttypid, a.atttypmod),
            'nullable', NOT a.attnotnull,
            'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid)) ORDER BY a.attnum), '[]')
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'primary_key', (
        SELECT coalesce(jsonb_agg(a.attname ORDER BY k.place), '[]')
        FROM pg_catalog.pg_constraint o, unnest(o.conkey) WITH ORDINALITY k (attnum, place), pg_catalog.pg_attribute a
        WHERE o.conrelid = c.oid AND o.contype = 'p' AND a.attrelid = c.oid AND a.attnum = k.attnum),
    'unique', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('name', o.conname, 'columns', (
            SELECT jsonb_agg(a.attname ORDER BY k.place)
            FROM unnest(o.conkey) WITH ORDINALITY k (attnum, place), pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum = k.attnum)) ORDER BY o.conname), '[]')
        FROM pg_catalog.pg_constraint o WHERE o.conrelid = c.oid AND o.contype = 'u'),
    'foreign_keys', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', o.conname,
            'columns', (
                SELECT jsonb_agg(a.attname ORDER BY k.place)
                FROM unnest(o.conkey) WITH ORDINALITY k (attnum, place), pg_catalog.pg_attribute a
                WHERE a.attrelid = o.conrelid AND a.attnum = k.attnum),
            'to', (SELECT CASE WHEN p.relnamespace = c.relnamespace THEN p.relname ELSE p.oid::regclass::text END
                   FROM pg_catalog.pg_class p WHERE p.oid = o.confrelid),
            'to_columns', (
                SELECT jsonb_agg(a.attname ORDER BY k.place)
                FROM unnest(o.confkey) WITH ORDINALITY k (attnum, place), pg_catalog.pg_attribute a
                WHERE a.attrelid = o.confrelid AND a.attnum = k.attnum),
            'on_delete', CASE o.confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
                WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END,
            'validated', o.convalidated) ORDER BY o.conname), '[]')
        FROM pg_catalog.pg_constraint o WHERE o.conrelid = c.oid AND o.contype = 'f'),
    'indexes', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', i.relname,
            'columns', (
                SELECT coalesce(jsonb_agg(a.attname ORDER BY k.place), '[]')
                FROM unnest(x.indkey::int2[]) WITH ORDINALITY k (attnum, place), pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum = k.attnum AND k.place <= x.indnkeyatts),
            'unique', x.indisunique,
            'of_key', EXISTS (SELECT FROM pg_catalog.pg_constraint o WHERE o.conindid = i.oid AND o.contype IN ('p', 'u', 'x')),
            'valid', x.indisvalid) ORDER BY i.relname), '[]')
        FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid),
    'policies', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', p.polname,
            'permissive', p.polpermissive,
            'command', CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
                WHEN 'w' THEN 'UPDATE' ELSE 'DELETE' END,
            'roles', (SELECT jsonb_agg(coalesce(r.rolname, 'public') ORDER BY r.rolname)
                      FROM unnest(p.polroles) m (oid) LEFT JOIN pg_catalog.pg_roles r ON r.oid = m.oid),
            'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
            'check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname), '[]')
        FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
ORDER BY c.relname COLLATE "C"
