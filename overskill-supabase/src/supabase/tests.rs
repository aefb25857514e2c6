//! What is refused before anything is called, and what shows nothing.

use super::*;
use crate::ContextKey;
use overskill_core::{DataKey, KeyId};

const URL: &str = "postgres://postgres:hunter2@db.example.com/postgres";

fn connect() -> SupabaseBuilder {
    let contexts = ContextKeys::new(ContextKey::generate(KeyId::parse("c1").unwrap(), &SystemIds));
    let passwords = RolePasswords { app: Secret::new("hunter3"), explorer: Secret::new("hunter4") };
    Supabase::connect("abcdefghijklmnopqrst", URL)
        .passwords(passwords)
        .contexts(contexts)
        .signing_key(SigningKey::generate(&SystemIds, SystemClock.now()).unwrap())
        .access_token("hunter5")
}

#[test]
fn what_is_malformed_or_missing_is_named_before_any_call() {
    let says = |builder: SupabaseBuilder| {
        let e = builder.build().unwrap_err();
        let said = format!("{e} {e:?}");
        assert!(!said.contains("hunter"), "{said}");
        said
    };
    let bare = || Supabase::connect("abcdefghijklmnopqrst", URL);
    assert!(says(Supabase::connect("My Project", URL)).contains("project ref must be 20 of a-z"));
    assert!(says(Supabase::connect("abcdefghijklmnopqrst", "hunter2")).contains("database URL must be"));
    assert!(says(bare()).contains("passwords must be given"));
    let empty = RolePasswords { app: Secret::new("hunter3"), explorer: Secret::new("") };
    assert!(says(bare().passwords(empty.clone())).contains("passwords.explorer must not be empty"));
    let full = RolePasswords { explorer: Secret::new("hunter4"), ..empty };
    assert!(says(bare().passwords(full.clone())).contains("contexts must be given"));
    let contexts = ContextKeys::new(ContextKey::generate(KeyId::parse("c1").unwrap(), &SystemIds));
    let nobody = bare().passwords(full).contexts(contexts);
    assert!(says(nobody).contains("must trust an issuer"));
    assert!(says(connect().pooler("postgres://host/db")).contains("pooler"));
    let key = SigningKey::generate(&SystemIds, SystemClock.now()).unwrap();
    let unsigned = SupabaseBuilder { signing: None, ..connect() };
    assert!(says(unsigned.also_publish(key.clone())).contains("signing_key must be given"));
    assert!(says(connect().also_publish(key.clone()).also_publish(key)).contains("have the same"));
    assert!(says(connect().publishable_key("sb_secret_hunter")).contains("publishable_key must begin with"));
    assert!(says(connect().certificates("hunter")).contains("certificates must be PEM"));
    assert!(says(connect().api_base("http://api.example.com")).contains("https://"));
    assert!(says(connect().access_token("hunter5\n")).contains("supabase"));
}

#[test]
fn a_part_whose_setting_is_missing_names_it() {
    let audit: Arc<dyn AuditLog> = Arc::new(overskill_core::memory::MemoryAudit::new());
    let supabase = SupabaseBuilder { token: None, ..connect() }.build().unwrap();
    let gate = supabase.gate(audit.clone());
    assert!(supabase.management(&gate).unwrap_err().message().contains("access_token must be given"));
    assert!(supabase.memberships().unwrap_err().message().contains("membership_keys must be given"));
    let users = MembershipKeys::new(KeyId::parse("m1").unwrap(), DataKey::from_bytes([7; 32]));
    let supabase = SupabaseBuilder { signing: None, ..connect() }.membership_keys(users).build().unwrap();
    assert!(supabase.issuer().unwrap_err().message().contains("signing_key must be given"));
    assert!(supabase.memberships().is_ok() && supabase.explorer(&gate, audit).is_ok());
}

#[test]
fn nothing_of_a_secret_shows() {
    let builder = connect().pooler("postgres://postgres.ref:hunter6@pooler.example.com:6543/postgres");
    assert!(!format!("{builder:?}").contains("hunter"));
    let supabase = builder.build().unwrap();
    let gate = supabase.gate(Arc::new(overskill_core::memory::MemoryAudit::new()));
    let shown = format!(
        "{supabase:?} {:?} {:?} {:?}",
        supabase.tenants(&gate),
        supabase.schema(&gate),
        supabase.management(&gate)
    );
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn records_check_certificates() {
    let url = |text: &str| {
        let url = Secret::new(text);
        verified(&url, &Server::parse(&url).unwrap()).expose().to_owned()
    };
    let base = "postgres://a:b@db.example.com/c";
    let checked = format!("{base}?sslmode=verify-full");
    assert_eq!([url(base), url(&format!("{base}?sslmode=require"))], [checked.clone(), checked]);
    assert_eq!(url("postgres://a:b@localhost/c"), "postgres://a:b@localhost/c");
    assert_eq!(url(&format!("{base}?connect_timeout=5")), format!("{base}?connect_timeout=5&sslmode=verify-full"));
}
