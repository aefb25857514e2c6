//! Supabase's own services: files of other apps, and their channels.

use crate::{stage::Attack, support::Signed};

/// The victim's file, and one of the attacker's own.
const FILES: &str = "
    INSERT INTO storage.buckets (id, name) VALUES ('avatars', 'avatars');
    INSERT INTO storage.objects (bucket_id, name) VALUES ('apps', 'victim/production/hushhush.txt'),
        ('apps', 'evil/production/mine.txt'), ('avatars', 'of-users-hushhush.png');";

/// The same in a twin whose policy is what many write: whoever is signed in may.
fn files(policy: &'static str) -> Attack {
    Attack::reads("SELECT name FROM weak.objects WHERE bucket_id = 'apps' ORDER BY name DESC")
        .ours("SELECT name FROM storage.objects ORDER BY name DESC")
        .role("authenticator")
        .twin(joined(
            "CREATE TABLE weak.objects (bucket_id text, name text);
             INSERT INTO weak.objects VALUES ('apps', 'victim/production/hushhush.txt'), ('apps', 'evil/production/mine.txt');
             ALTER TABLE weak.objects ENABLE ROW LEVEL SECURITY; GRANT ALL ON weak.objects TO authenticated, anon;",
            policy,
        ))
        .meanwhile(FILES)
}

fn messages(policy: &'static str) -> Attack {
    const TOPIC: &str = "SELECT set_config('realtime.topic', 'app:victim:production:room', true);;";
    Attack::reads(&format!("{TOPIC} SELECT payload FROM weak.messages"))
        .ours(format!("{TOPIC} SELECT payload FROM realtime.messages"))
        .role("authenticator")
        .twin(joined(
            "CREATE TABLE weak.messages (topic text, extension text, payload jsonb);
             INSERT INTO weak.messages VALUES ('app:victim:production:room', 'broadcast', '\"hushhush\"');
             ALTER TABLE weak.messages ENABLE ROW LEVEL SECURITY; GRANT ALL ON weak.messages TO authenticated;",
            policy,
        ))
        .meanwhile(
            "INSERT INTO realtime.messages (topic, extension, payload) VALUES
                 ('app:victim:production:room', 'broadcast', '\"hushhush\"'), ('users:1', 'broadcast', '\"hushhush\"');",
        )
}

fn joined(one: &str, other: &str) -> &'static str {
    format!("{one} {other}").leak()
}

/// Under another context than the attacker's own.
fn under(context: &Signed, statements: &str) -> String {
    format!("SELECT set_config('overskill.context', '{}', true);; {statements}", context.text())
}

const ALL_FILES: &str = "SELECT name FROM storage.objects ORDER BY name DESC";

/// What comes of the attacker's own app is shown: the twin's claims say it as text.
const IN_CLAIMS: &str = "SELECT set_config('request.jwt.claims', '{\"app\": \"vic\"}', true);;";

#[test]
fn files_of_another_app_are_listed() {
    files("CREATE POLICY files ON weak.objects USING (bucket_id = 'apps')").fails();
}

#[test]
fn files_are_put_into_anothers_folder() {
    let planted = |table: &str| format!("SELECT count(*) > 0 FROM {table} WHERE name = 'victim/production/planted'");
    let put = |table: &str| {
        format!("INSERT INTO {table} (bucket_id, name) VALUES ('apps', 'victim/production/planted');; COMMIT")
    };
    let harm = [planted("weak.objects"), planted("storage.objects")].map(|it| &*it.leak());
    Attack::harms(&put("weak.objects"), harm[0], harm[1])
        .ours(put("storage.objects"))
        .role("authenticator")
        .twin(
            "CREATE TABLE weak.objects (bucket_id text, name text); GRANT ALL ON weak.objects TO authenticated;
             ALTER TABLE weak.objects ENABLE ROW LEVEL SECURITY;
             CREATE POLICY reads ON weak.objects FOR SELECT USING (split_part(name, '/', 1) = 'evil');
             CREATE POLICY writes ON weak.objects FOR INSERT WITH CHECK (bucket_id = 'apps')",
        )
        .meanwhile(FILES)
        .fails();
}

#[test]
fn a_file_is_moved_into_anothers_folder() {
    let moved = |table: &str| format!("SELECT count(*) > 0 FROM {table} WHERE name = 'victim/production/moved'");
    let r#move = |table: &str| {
        format!("UPDATE {table} SET name = 'victim/production/moved' WHERE name = 'evil/production/mine.txt';; COMMIT")
    };
    let harm = [moved("weak.objects"), moved("storage.objects")].map(|it| &*it.leak());
    Attack::harms(&r#move("weak.objects"), harm[0], harm[1])
        .ours(r#move("storage.objects"))
        .role("authenticator")
        .twin(
            "CREATE TABLE weak.objects (bucket_id text, name text); GRANT ALL ON weak.objects TO authenticated;
             INSERT INTO weak.objects VALUES ('apps', 'evil/production/mine.txt');
             ALTER TABLE weak.objects ENABLE ROW LEVEL SECURITY;
             CREATE POLICY reads ON weak.objects FOR SELECT USING (bucket_id = 'apps');
             CREATE POLICY changes ON weak.objects FOR UPDATE USING (split_part(name, '/', 1) = 'evil') WITH CHECK (bucket_id = 'apps')",
        )
        .meanwhile(FILES)
        .fails();
}

#[test]
fn a_file_of_anothers_is_removed() {
    let gone = |table: &str| format!("SELECT count(*) = 0 FROM {table} WHERE name LIKE 'victim/%'");
    let remove = |table: &str| format!("DELETE FROM {table} WHERE name LIKE 'victim/%';; COMMIT");
    let harm = [gone("weak.objects"), gone("storage.objects")].map(|it| &*it.leak());
    Attack::harms(&remove("weak.objects"), harm[0], harm[1])
        .ours(remove("storage.objects"))
        .role("authenticator")
        .twin(
            "CREATE TABLE weak.objects (bucket_id text, name text); GRANT ALL ON weak.objects TO authenticated;
             INSERT INTO weak.objects VALUES ('apps', 'victim/production/hushhush.txt');
             ALTER TABLE weak.objects ENABLE ROW LEVEL SECURITY;
             CREATE POLICY files ON weak.objects USING (bucket_id = 'apps')",
        )
        .meanwhile(FILES)
        .fails();
}

#[test]
fn an_app_whose_name_begins_anothers_reads_its_files() {
    let weak = "CREATE POLICY files ON weak.objects USING
        (name LIKE (current_setting('request.jwt.claims')::jsonb ->> 'app') || '%')";
    let twin = files(weak).ours(under(&Signed::of("eve", "vic"), ALL_FILES));
    twin.on_twin(&format!("{IN_CLAIMS} SELECT name FROM weak.objects")).fails();
}

#[test]
fn a_name_climbs_out_of_its_folder() {
    let climbed = |table: &str| format!("SELECT count(*) > 0 FROM {table} WHERE name LIKE '%..%' OR name LIKE '%//%'");
    let harm = [climbed("weak.objects"), climbed("storage.objects")].map(|it| &*it.leak());
    for name in ["evil/production/../../victim/production/x", "evil/production/..", "evil/production//x"] {
        let put = |table: &str| format!("INSERT INTO {table} (bucket_id, name) VALUES ('apps', '{name}');; COMMIT");
        Attack::harms(&put("weak.objects"), harm[0], harm[1])
            .ours(put("storage.objects"))
            .role("authenticator")
            .twin(
                "CREATE TABLE weak.objects (bucket_id text, name text); GRANT ALL ON weak.objects TO authenticated;
                 ALTER TABLE weak.objects ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY files ON weak.objects USING (starts_with(name, 'evil/'))",
            )
            .meanwhile(FILES)
            .fails();
    }
}

#[test]
fn a_policy_for_all_buckets_is_added_later() {
    files("CREATE POLICY mine ON weak.objects USING (split_part(name, '/', 1) = 'evil'); CREATE POLICY later ON weak.objects USING (true)")
        .unlucky("CREATE POLICY later ON storage.objects USING (true)")
        .fails();
}

#[test]
fn an_app_reads_a_bucket_of_the_projects_own() {
    files("CREATE POLICY users ON weak.objects TO authenticated USING (true)")
        .unlucky("CREATE POLICY users ON storage.objects TO authenticated USING (bucket_id = 'avatars')")
        .fails();
}

#[test]
fn files_are_read_without_a_token() {
    files("CREATE POLICY files ON weak.objects USING (split_part(name, '/', 1) = coalesce(current_setting('app.name', true), split_part(name, '/', 1)))")
        .ours(format!("SET LOCAL ROLE anon;; {ALL_FILES};; ROLLBACK;; BEGIN;; SET LOCAL ROLE authenticated;; SELECT name FROM storage.objects WHERE bucket_id = 'apps'"))
        .stranger()
        .fails();
}

#[test]
fn files_of_another_environment_are_read() {
    let mut preview = Signed::of("vic", "victim");
    preview.environment = "preview";
    let weak = "CREATE POLICY files ON weak.objects USING (split_part(name, '/', 1) = 'victim')";
    files(weak).ours(under(&preview, ALL_FILES)).fails();
}

#[test]
fn files_of_a_suspended_app_are_read() {
    files("CREATE POLICY files ON weak.objects USING (split_part(name, '/', 1) = 'victim')")
        .unlucky("UPDATE overskill_guard.apps SET state = 'suspended' WHERE app = 'victim'")
        .ours(under(&Signed::of("vic", "victim"), ALL_FILES))
        .fails();
}

#[test]
fn a_context_that_expired_reads_what_the_projects_users_may() {
    // A token of an app's is no user's of the project, whether its context holds or not.
    let mut late = Signed::of("eve", "evil");
    late.expires_in_seconds = -1;
    files("CREATE POLICY users ON weak.objects USING (current_setting('request.jwt.claims')::jsonb ->> 'app_id' IS NOT NULL)")
        .unlucky("CREATE POLICY users ON storage.objects TO authenticated USING (bucket_id = 'avatars')")
        .ours(format!(
            "SELECT set_config('overskill.context', '', true), set_config('request.jwt.claims', \
             '{{\"app_metadata\": {{\"overskill\": \"{}\"}}}}', true);; {ALL_FILES}",
            late.text()
        ))
        .fails();
}

#[test]
fn a_channel_of_another_app_is_listened_to() {
    messages("CREATE POLICY channels ON weak.messages USING (extension = 'broadcast')").fails();
}

#[test]
fn an_app_whose_name_begins_anothers_listens() {
    let weak = "CREATE POLICY channels ON weak.messages USING
        (topic LIKE 'app:' || (current_setting('request.jwt.claims')::jsonb ->> 'app') || '%')";
    let ours = "SELECT set_config('realtime.topic', 'app:victim:production:room', true);; SELECT payload FROM realtime.messages";
    let attack = messages(weak).ours(under(&Signed::of("eve", "vic"), ours));
    attack.on_twin(&format!("{IN_CLAIMS} SELECT payload FROM weak.messages")).fails();
}

#[test]
fn a_topic_is_said_and_rows_of_another_are_read() {
    // The policy of the documentation looks at the topic that was said, and not at the row.
    let said = "SELECT set_config('realtime.topic', 'app:evil:production:room', true);; SELECT payload FROM";
    let weak = "CREATE POLICY channels ON weak.messages USING
        (split_part(current_setting('realtime.topic', true), ':', 2) = 'evil')";
    let attack = messages(weak).ours(format!("{said} realtime.messages"));
    attack.on_twin(&format!("{said} weak.messages")).fails();
}

#[test]
fn something_is_said_in_anothers_channel() {
    let heard = |table: &str| format!("SELECT count(*) > 0 FROM {table} WHERE payload = '\"planted\"'");
    let say = |table: &str| {
        format!(
            "SELECT set_config('realtime.topic', 'app:victim:production:room', true);; INSERT INTO {table} \
             (topic, extension, payload) VALUES ('app:victim:production:room', 'broadcast', '\"planted\"');; COMMIT"
        )
    };
    let harm = [heard("weak.messages"), heard("realtime.messages")].map(|it| &*it.leak());
    Attack::harms(&say("weak.messages"), harm[0], harm[1])
        .ours(say("realtime.messages"))
        .role("authenticator")
        .twin(
            "CREATE TABLE weak.messages (topic text, extension text, payload jsonb); GRANT ALL ON weak.messages TO authenticated;
             ALTER TABLE weak.messages ENABLE ROW LEVEL SECURITY;
             CREATE POLICY hears ON weak.messages FOR SELECT USING (split_part(topic, ':', 2) = 'evil');
             CREATE POLICY says ON weak.messages FOR INSERT WITH CHECK (extension = 'broadcast')",
        )
        .fails();
}

#[test]
fn an_app_listens_to_a_channel_of_the_projects_own() {
    let said = "SELECT set_config('realtime.topic', 'users:1', true);; SELECT payload FROM realtime.messages";
    messages("CREATE POLICY users ON weak.messages TO authenticated USING (true)")
        .unlucky("CREATE POLICY users ON realtime.messages TO authenticated USING (true)")
        .ours(said)
        .fails();
}

#[test]
fn a_list_is_asked_for_with_sql_in_it() {
    // The twin pastes the value into its own statement, with the rights of whoever made it.
    let weak = "CREATE FUNCTION weak.list(value text) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
        DECLARE said text; BEGIN
            EXECUTE 'SELECT string_agg(data::text, '''') FROM weak.entities WHERE app_id = weak.app() AND t1 = ''' || value || ''''
            INTO said; RETURN said; END $$";
    let asks = [
        r#""sort": "created", "filters": [["a", "' OR '1'='1", null]]"#,
        r#""sort": "created", "filters": [["a' OR true OR data ->> 'a", "b", "1"]]"#,
        r#""sort": "created", "filters": [["a", "b", "1 OR true"]]"#,
        r#""sort": "created", "filters": [["id", "' OR true --", null]]"#,
        r#""sort": "field", "field": "a') IS NULL OR true --", "filters": []"#,
        r#""sort": "id", "cursor": "r' OR true --", "filters": []"#,
        r#""sort": "updated", "cursor": "u1.1.x') OR true --", "filters": []"#,
    ];
    let ask = |kind: &str, more: &str| {
        let asked = format!(r#"{{"limit": 9, "descending": false, {more}}}"#).replace('\'', "''");
        format!("SELECT overskill_data.list_records('{kind}', '{asked}')")
    };
    let mut ours: Vec<_> = asks.map(|more| ask("Todo", more)).into();
    ours.push(ask("Todo'' OR true --", r#""sort": "id", "filters": []"#));
    let ours = ours.join(";; ROLLBACK TO before;; ");
    Attack::reads("SELECT weak.list(QUOTED)".replace("QUOTED", &quoted("' OR '1'='1")).as_str())
        .twin(weak)
        .role("authenticator")
        .ours(format!("SAVEPOINT before;; {ours}"))
        .fails();
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[test]
fn a_record_of_anothers_is_asked_for_by_its_name() {
    let weak = "CREATE FUNCTION weak.read(it text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS \
        'SELECT data::text FROM weak.entities WHERE id = it'";
    let ours = "SAVEPOINT before;; SELECT overskill_data.read_record('Todo', 'v1');; \
        SELECT overskill_data.change_record('Todo', 'v1', '{}', 'true');; ROLLBACK TO before;; \
        SELECT overskill_data.make_record('Todo', 'v1', '{}'), overskill_data.change_record('Todo', 'v1', '{}', 'true')";
    Attack::reads("SELECT weak.read('v1')").twin(weak).role("authenticator").ours(ours).fails();
}
