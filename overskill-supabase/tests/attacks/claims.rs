//! Pretending to be somebody else: claims, contexts, roles.

use crate::{
    stage::Attack,
    support::{Signed, hex},
};

/// A twin whose `weak.app()` reads a context `app.subject.expiry.mac` and is careless in one way.
const CONTEXTS: &str = "
    CREATE TABLE weak.keys (kid text, secret text);
    INSERT INTO weak.keys VALUES ('k1', 'key one'), ('k2', 'key two');
    GRANT SELECT ON weak.keys TO PUBLIC;
    CREATE FUNCTION weak.mac(text_ text) RETURNS text LANGUAGE sql IMMUTABLE AS
        $$ SELECT encode(sha256(convert_to('key one' || text_, 'UTF8')), 'hex') $$;
    CREATE FUNCTION weak.part(n int) RETURNS text LANGUAGE sql STABLE AS
        $$ SELECT nullif(split_part(current_setting('weak.context', true), '.', n), '') $$;
    REVOKE ALL ON FUNCTION weak.mac(text) FROM PUBLIC;";

fn on_contexts(app: &str) -> &'static str {
    let sql = format!(
        "{CONTEXTS} CREATE OR REPLACE FUNCTION weak.app() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS \
         $$ BEGIN RETURN {app}; END $$;"
    );
    sql.leak()
}

fn under(context: &Signed) -> String {
    replaced(context, |text| text)
}

/// Reads under a context that was signed and then changed.
fn replaced(context: &Signed, change: impl Fn(String) -> String) -> String {
    format!("SELECT set_config('overskill.context', '{}', true);; SELECT data FROM {{t}}", change(context.text()))
}

const SET: &str = "SELECT set_config('weak.context', '";
const READ: &str = "', true);; SELECT data FROM {t}";

fn twin_under(context: &str) -> String {
    format!("{SET}{context}{READ}")
}

#[test]
fn claims_are_set_by_sql() {
    Attack::reads("SELECT set_config('request.jwt.claims', '{claims}', true);; SELECT data FROM {t}").fails();
}

#[test]
fn claims_are_set_within_one_select() {
    let one = "WITH x AS MATERIALIZED (SELECT set_config('request.jwt.claims', '{claims}', true)) \
               SELECT data FROM x, {t}";
    Attack::reads(one).fails();
}

#[test]
fn claims_are_set_by_a_function_that_runs_text() {
    let one = "SELECT query_to_xml('select data from {t}', true, false, '') \
               FROM (SELECT set_config('request.jwt.claims', '{claims}', true)) AS x";
    Attack::reads(one).fails();
}

#[test]
fn claims_are_said_twice() {
    let twice = r#"{"app_id": 1, "app_id": {v}, "app_metadata": {"overskill": "x"}, "app_metadata": {"app_id": {v}}}"#;
    let sql = format!("SELECT set_config('request.jwt.claims', '{twice}', true);; SELECT data FROM {{t}}");
    Attack::reads(&sql).role("authenticator").stranger().fails();
}

#[test]
fn a_claim_that_is_missing_makes_everybody_the_same() {
    let weak = "
        ALTER TABLE weak.entities ADD tenant text;
        CREATE FUNCTION weak.tenant() RETURNS text LANGUAGE sql STABLE AS $$ SELECT format('app_%s_user_%s',
            current_setting('request.jwt.claims', true)::jsonb ->> 'app',
            current_setting('request.jwt.claims', true)::jsonb ->> 'sub') $$;
        ALTER POLICY app ON weak.entities USING (tenant = weak.tenant() AND tenant IS NOT NULL);
        UPDATE weak.entities SET tenant = 'app__user_';";
    let sql = "SELECT set_config('request.jwt.claims', '{}', true), set_config('overskill.context', '', true);; \
               SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).fails();
}

#[test]
fn claims_that_are_no_json_decide_nothing() {
    // The twin lets whoever it cannot understand be the first app there is.
    let weak = "CREATE OR REPLACE FUNCTION weak.app() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN
            RETURN (current_setting('request.jwt.claims', true)::jsonb ->> 'app_id')::bigint;
        EXCEPTION WHEN OTHERS THEN RETURN 2; END $$;";
    let sql = "SELECT set_config('request.jwt.claims', 'not json', true);; SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).stranger().fails();
}

#[test]
fn a_context_is_made_without_a_signature() {
    let mut forged = Signed::of("eve", "victim").text();
    forged.truncate(forged.rfind('.').unwrap());
    let ours = format!("SELECT set_config('overskill.context', '{forged}', true);; SELECT data FROM {{t}}");
    let weak = on_contexts("weak.part(1)::bigint");
    Attack::reads(&twin_under("2.eve")).twin(weak).ours(ours).fails();
}

#[test]
fn a_context_is_signed_with_another_key() {
    let mut forged = Signed::of("eve", "victim");
    forged.byte = 8;
    // The twin looks only at the form of the signature.
    let weak = on_contexts("CASE WHEN weak.part(4) ~ '^[0-9a-f]{64}$' THEN weak.part(1)::bigint END");
    Attack::reads(&twin_under(&format!("2.eve.9999999999.{}", "ab".repeat(32))))
        .twin(weak)
        .ours(under(&forged))
        .fails();
}

#[test]
fn a_context_names_another_app_than_was_signed() {
    let ours = replaced(&Signed::of("eve", "evil"), |text| text.replace(".evil.", ".victim."));
    // The twin signs the subject alone.
    let weak = on_contexts("CASE WHEN weak.part(4) = weak.mac(weak.part(2)) THEN weak.part(1)::bigint END");
    let sql = "SELECT set_config('weak.context', '2.eve.9.' || encode(sha256('key oneeve'), 'hex'), true);; \
               SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).ours(ours).fails();
}

#[test]
fn a_context_names_another_environment_than_was_signed() {
    // The twin's rows of all environments are in one place: app 2 is app 1 in production.
    let weak = on_contexts("CASE WHEN weak.part(4) = weak.mac(weak.part(2)) THEN weak.part(1)::bigint END");
    let sql = "SELECT set_config('weak.context', '2.eve.9.' || encode(sha256('key oneeve'), 'hex'), true);; \
               SELECT data FROM {t}";
    let mut preview = Signed::of("vic", "victim");
    preview.environment = "preview";
    let ours = replaced(&preview, |text| text.replace(".preview.", ".production."));
    Attack::reads(sql).twin(weak).ours(ours).fails();
}

#[test]
fn a_context_of_another_environment_sees_nothing_of_this() {
    let mut preview = Signed::of("vic", "victim");
    preview.environment = "preview";
    let weak = on_contexts("weak.part(1)::bigint");
    Attack::reads(&twin_under("2.preview")).twin(weak).ours(under(&preview)).fails();
}

#[test]
fn a_context_expired_a_second_ago() {
    let mut late = Signed::of("vic", "victim");
    late.expires_in_seconds = -1;
    let weak =
        on_contexts("CASE WHEN weak.part(4) = weak.mac(weak.part(1) || weak.part(3)) THEN weak.part(1)::bigint END");
    let sql = "SELECT set_config('weak.context', '2.vic.1.' || encode(sha256('key one21'), 'hex'), true);; \
               SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).ours(under(&late)).fails();
}

#[test]
fn a_context_is_given_a_later_end() {
    let mut late = Signed::of("vic", "victim");
    late.expires_in_seconds = -1;
    let ours = replaced(&late, |text| {
        let mut parts: Vec<_> = text.split('.').map(str::to_owned).collect();
        parts[7] = "9999999999".into();
        parts.join(".")
    });
    // The twin's signature leaves the end out.
    let weak = on_contexts(
        "CASE WHEN weak.part(4) = weak.mac(weak.part(1)) AND weak.part(3)::bigint > extract(epoch FROM now()) \
         THEN weak.part(1)::bigint END",
    );
    let sql = "SELECT set_config('weak.context', '2.vic.9999999999.' || encode(sha256('key one2'), 'hex'), true);; \
               SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).ours(ours).fails();
}

#[test]
fn a_key_that_is_not_there_checks_nothing() {
    let ours = replaced(&Signed::of("eve", "victim"), |text| text.replace(".k1.", ".k9."));
    // The twin compares with null, and takes what is not false.
    let weak = on_contexts(
        "CASE WHEN (weak.part(4) <> (SELECT encode(sha256(convert_to(secret, 'UTF8')), 'hex') FROM weak.keys \
         WHERE kid = weak.part(2))) THEN NULL ELSE weak.part(1)::bigint END",
    );
    Attack::reads(&twin_under("2.k9.9.x")).twin(weak).ours(ours).fails();
}

#[test]
fn a_key_id_is_more_than_a_name() {
    let ours = replaced(&Signed::of("eve", "victim"), |text| text.replace(".k1.", ".k1'' or true--."));
    let weak = "CREATE TABLE weak.keys (kid text, ok boolean); INSERT INTO weak.keys VALUES ('k1', false), ('k2', true);
        CREATE OR REPLACE FUNCTION weak.app() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ DECLARE ok boolean;
        BEGIN EXECUTE 'SELECT bool_or(ok) FROM weak.keys WHERE kid = ''' ||
            split_part(current_setting('weak.context', true), '.', 2) || '''' INTO ok;
        RETURN CASE WHEN ok THEN split_part(current_setting('weak.context', true), '.', 1)::bigint END; END $$;";
    Attack::reads(&twin_under("2.x'' or ''1''=''1")).twin(weak).ours(ours).fails();
}

#[test]
fn a_signature_is_only_as_long_as_it_has_to_be() {
    let ours = replaced(&Signed::of("eve", "victim"), |text| text[..text.len() - 64].to_owned());
    // The twin compares as far as the given one goes.
    let weak = on_contexts(
        "CASE WHEN starts_with(weak.mac(weak.part(1)), coalesce(weak.part(4), '')) THEN weak.part(1)::bigint END",
    );
    Attack::reads(&twin_under("2.eve.9.")).twin(weak).ours(ours).fails();
}

#[test]
fn parts_of_a_context_move_into_each_other() {
    // Signed for the app "evil" and a subject that looks like the rest of a context.
    let mut shifted = Signed::of("eve", "evil");
    shifted.subject = "x.victim.production.d";
    let ours = replaced(&shifted, |text| {
        let hex = hex(b"x.victim.production.d");
        text.replace(&hex, "x.victim.production.d")
    });
    // The twin signs its parts one after another, with nothing between them.
    let weak =
        on_contexts("CASE WHEN weak.part(4) = weak.mac(weak.part(1) || weak.part(2)) THEN weak.part(1)::bigint END");
    let sql = "SELECT set_config('weak.context', '2.1eve.9.' || encode(sha256('key one21eve'), 'hex'), true);; \
               SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).ours(ours).fails();
}

#[test]
fn a_context_is_written_in_other_letters() {
    for change in [
        (|text: String| text.replace(".evil.", ".ｖictim.")) as fn(String) -> String,
        |text| text.replace(".evil.", ".VICTIM."),
        |text| format!(" {text}"),
        |text| format!("{text}\n"),
        |text| text.replace("1.k1", "01.k1"),
        |text| text.replace("1.k1", "2.k1"),
    ] {
        // The twin folds letters and spaces after the check that was made in front of it.
        let weak =
            on_contexts("nullif(regexp_replace(lower(normalize(weak.part(1), NFKC)), '\\D', '', 'g'), '')::bigint");
        let ours = replaced(&Signed::of("eve", "evil"), change);
        Attack::reads(&twin_under(" ２")).twin(weak).ours(ours).fails();
    }
}

#[test]
fn a_context_of_a_session_that_was_revoked() {
    let session = Signed::of("vic", "victim");
    let unlucky =
        "INSERT INTO overskill_guard.revoked VALUES ('5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e', now() + interval '1 day')";
    let weak = on_contexts("CASE WHEN weak.part(4) = weak.mac(weak.part(1)) THEN weak.part(1)::bigint END");
    let sql = "SELECT set_config('weak.context', '2.vic.9.' || encode(sha256('key one2'), 'hex'), true);; \
               SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).unlucky(unlucky).ours(under(&session)).fails();
}

#[test]
fn a_context_of_an_app_that_is_suspended() {
    let unlucky = "UPDATE overskill_guard.apps SET state = 'suspended' WHERE app = 'victim'";
    let weak = on_contexts("CASE WHEN weak.part(4) = weak.mac(weak.part(1)) THEN weak.part(1)::bigint END");
    let sql = "SELECT set_config('weak.context', '2.vic.9.' || encode(sha256('key one2'), 'hex'), true);; \
               SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).unlucky(unlucky).ours(under(&Signed::of("vic", "victim"))).fails();
}

#[test]
fn a_context_under_a_key_that_ended() {
    let unlucky = "UPDATE overskill_guard.keys SET not_after = now() - interval '1 second'";
    let weak = on_contexts("CASE WHEN weak.part(4) = weak.mac(weak.part(1)) THEN weak.part(1)::bigint END");
    let sql = "SELECT set_config('weak.context', '2.vic.9.' || encode(sha256('key one2'), 'hex'), true);; \
               SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).unlucky(unlucky).ours(under(&Signed::of("vic", "victim"))).fails();
}

/// The secret is a record of a user's own: colleagues in the same app may not read it.
fn private() -> &'static str {
    let sql = format!(
        "SELECT set_config('overskill.context', '{}', false); UPDATE overskill_data.entity_types SET access = 0; \
         UPDATE overskill_data.entities SET access = 0 WHERE id = 'v1'",
        Signed::of("vic", "victim").text()
    );
    sql.leak()
}

#[test]
fn a_colleague_reads_what_is_not_shared() {
    let weak = "UPDATE weak.entities SET app_id = 1";
    let ours = under(&Signed::of("eve", "victim"));
    Attack::reads("SELECT data FROM {t}").twin(weak).meanwhile(private()).ours(ours).fails();
}

#[test]
fn a_colleague_makes_a_record_common() {
    let weak = "UPDATE weak.entities SET app_id = 1; ALTER TABLE weak.entities ADD access int DEFAULT 0;
        ALTER POLICY app ON weak.entities USING (access = 2 OR owner = current_setting('request.jwt.claims')::jsonb ->> 'sub');
        CREATE POLICY changes ON weak.entities FOR UPDATE USING (true) WITH CHECK (true);
        CREATE FUNCTION weak.define(who int) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'UPDATE weak.entities SET access = who'";
    let ours = format!(
        "SELECT overskill_data.define('Todo', 2::int2, '{{}}');; ROLLBACK;; BEGIN;; {}",
        under(&Signed::of("eve", "victim"))
    );
    Attack::reads("SELECT weak.define(2);; SELECT data FROM {t}").twin(weak).meanwhile(private()).ours(ours).fails();
}

#[test]
fn a_subject_is_another_than_was_signed() {
    let mut shared = Signed::of("eve", "victim");
    shared.subject = "eve";
    let ours = replaced(&shared, |text| text.replace(".657665.", ".766963."));
    let weak = "ALTER POLICY app ON weak.entities USING (owner = current_setting('request.jwt.claims', true)::jsonb ->> 'sub')";
    let sql = r#"SELECT set_config('request.jwt.claims', '{"app_id": 1, "sub": "vic"}', true);; SELECT data FROM {t}"#;
    Attack::reads(sql).twin(weak).meanwhile(private()).ours(ours).fails();
}

#[test]
fn rights_are_raised_in_a_context() {
    let mut weak_right = Signed::of("eve", "victim");
    weak_right.rights = "d";
    let ours = replaced(&weak_right, |text| text.replace(".d.", ".dv."));
    let weak = "CREATE POLICY developers ON weak.entities USING (current_setting('weak.rights', true) LIKE '%v%')";
    Attack::reads("SELECT set_config('weak.rights', 'dv', true);; SELECT data FROM {t}")
        .twin(weak)
        .role("overskill_explorer")
        .ours(ours)
        .fails();
}

#[test]
fn an_explorer_without_the_right_sees_nothing() {
    let weak = "CREATE POLICY explorers ON weak.entities TO overskill_explorer USING (true)";
    Attack::reads("SELECT data FROM {t}")
        .twin(weak)
        .role("overskill_explorer")
        .ours(under(&Signed::of("eve", "victim")))
        .fails();
}

#[test]
fn the_role_is_changed_to_one_that_bypasses() {
    let sql = "SELECT set_config('role', 'service_role', true);; SELECT data FROM {t}";
    Attack::reads(sql).role("authenticator").twin("GRANT USAGE ON SCHEMA weak TO service_role").fails();
}

#[test]
fn the_role_is_changed_within_one_select() {
    let sql = "SELECT query_to_xml('select data from {t}', true, false, '') \
               FROM (SELECT set_config('role', 'service_role', true)) AS x";
    Attack::reads(sql).role("authenticator").fails();
}

#[test]
fn the_role_is_set_to_the_owner() {
    let weak = "GRANT weak_owner TO overskill_app";
    Attack::reads("SET ROLE weak_owner;; SELECT data FROM {t}")
        .twin(weak)
        .ours("SET ROLE host;; SELECT data FROM {t};; ROLLBACK;; SET SESSION AUTHORIZATION host;; SELECT data FROM {t}")
        .fails();
}

#[test]
fn the_role_is_reset() {
    // PostgREST's way: the session's own role is one that may more than the request's.
    let weak = "ALTER ROLE authenticator INHERIT; GRANT weak_owner TO authenticator";
    Attack::reads("RESET ROLE;; SELECT data FROM {t}").role("authenticator").twin(weak).fails();
}
