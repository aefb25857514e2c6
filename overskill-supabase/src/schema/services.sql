-- What comes through Supabase's own services, where there are any: an app's first record by PostgREST, its files and its
-- channels. Runs at every installation, for a service may have come since.

-- The app and the environment of this transaction, as they stand in names of files and channels: todo42/production. Null
-- without a context that holds, and for an app that is suspended.
CREATE OR REPLACE FUNCTION overskill_guard.place() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := overskill_guard.present();
BEGIN
    IF part IS NULL OR EXISTS (SELECT FROM overskill_guard.apps a
        WHERE a.app = part[3] AND a.environment = part[4] AND a.state <> 'active')
    THEN
        RETURN NULL;
    END IF;
    RETURN part[3] || '/' || part[4];
END $$;

-- Whether this transaction is one of an app's user at all, with a context that holds or one that does not.
CREATE OR REPLACE FUNCTION overskill_guard.is_apps() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(nullif(pg_catalog.current_setting('overskill.context', true), ''), overskill_guard.claimed()) IS NOT NULL;
END $$;

REVOKE ALL ON FUNCTION overskill_guard.place(), overskill_guard.is_apps() FROM PUBLIC;

DO $$
BEGIN
    IF to_regrole('authenticated') IS NULL OR to_regrole('anon') IS NULL THEN
        RETURN;
    END IF;
    GRANT EXECUTE ON FUNCTION overskill_data.enter(text), overskill_data.make_record(text, text, text),
        overskill_data.read_record(text, text), overskill_data.change_record(text, text, text, text),
        overskill_data.delete_record(text, text), overskill_data.list_records(text, text),
        overskill_data.admitted(), overskill_data.served_from() TO authenticated;
    GRANT EXECUTE ON FUNCTION overskill_guard.place(), overskill_guard.is_apps() TO authenticated, anon;

    -- Files: those of bucket `apps` in the app's own folder, {app}/{environment}/…, and in no other bucket, whatever policies
    -- the project has for its own users. That the bucket is private, the audit says. Names are compared part by part: no pattern, no prefix.
    IF to_regclass('storage.objects') IS NOT NULL THEN
        INSERT INTO storage.buckets (id, name, public) VALUES ('apps', 'apps', false) ON CONFLICT (id) DO NOTHING;
        IF NOT (SELECT c.relrowsecurity FROM pg_catalog.pg_class c WHERE c.oid = 'storage.objects'::regclass) THEN
            ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY; -- as its owner; nobody else can mend it
        END IF;
        DROP POLICY IF EXISTS overskill_app ON storage.objects;
        CREATE POLICY overskill_app ON storage.objects AS RESTRICTIVE TO authenticated, anon USING (
            CASE WHEN bucket_id = 'apps'
            THEN split_part(name, '/', 1) || '/' || split_part(name, '/', 2) = (SELECT overskill_guard.place())
                 AND name !~ '(^|/)[.]{0,2}(/|$)'
            ELSE NOT (SELECT overskill_guard.is_apps()) END);
        DROP POLICY IF EXISTS overskill_files ON storage.objects;
        CREATE POLICY overskill_files ON storage.objects TO authenticated USING (bucket_id = 'apps');
    END IF;

    -- Channels: app:{app}:{environment}:…, and none of the project's own. Realtime asks about the topic that is joined, which
    -- it says twice: in the row and beside it.
    IF to_regclass('realtime.messages') IS NOT NULL THEN
        IF NOT (SELECT c.relrowsecurity FROM pg_catalog.pg_class c WHERE c.oid = 'realtime.messages'::regclass) THEN
            ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY; -- as its owner; nobody else can mend it
        END IF;
        DROP POLICY IF EXISTS overskill_app ON realtime.messages;
        CREATE POLICY overskill_app ON realtime.messages AS RESTRICTIVE TO authenticated, anon USING (
            CASE WHEN split_part(topic, ':', 1) = 'app'
            THEN split_part(topic, ':', 2) || '/' || split_part(topic, ':', 3) = (SELECT overskill_guard.place())
                 AND topic = (SELECT current_setting('realtime.topic', true)) AND extension IN ('broadcast', 'presence')
            ELSE NOT (SELECT overskill_guard.is_apps()) END);
        DROP POLICY IF EXISTS overskill_channels ON realtime.messages;
        CREATE POLICY overskill_channels ON realtime.messages TO authenticated USING (split_part(topic, ':', 1) = 'app');
    END IF;
END $$;
