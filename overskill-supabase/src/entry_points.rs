//! A list of everything in this crate that can be awaited, and what each wants before it touches a tenant's data or the walls
//! between tenants. Whoever adds something adds it here.

use std::{collections::BTreeMap, fs, path::Path};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// A `TenantGrant` of its gate, with this right.
    Tenant(&'static str),
    /// A `SystemGrant` of its gate, for all apps.
    System,
    /// A `SystemGrant` of its gate, for the app.
    SystemOfApp,
    /// A token, which its gate makes a grant of.
    Token,
    /// Nothing, for this reason.
    Nothing(&'static str),
}
use Wants::{Nothing, System, SystemOfApp, Tenant, Token};

const OF_A_TRANSACTION: Wants = Nothing("a transaction was begun with a grant");
const OF_A_QUERY: Wants = Nothing("a query was begun with a grant");
const READINESS: Wants = Nothing("says whether it can be used, and nothing of tenants");
const OF_THE_GATE: Wants = Nothing("is what a gate asks; what it finds is nobody's before the gate has judged");
const ATTESTED: Wants = Nothing("rows without an attestation of a key are no memberships, whoever writes them");

const ENTRY_POINTS: &[(&str, &str, Wants)] = &[
    ("entities/mod.rs", "call", Token),
    ("entities/mod.rs", "check", READINESS),
    ("entities/rows.rs", "create", OF_A_TRANSACTION),
    ("entities/rows.rs", "delete", OF_A_TRANSACTION),
    ("entities/rows.rs", "list", OF_A_TRANSACTION),
    ("entities/rows.rs", "read", OF_A_TRANSACTION),
    ("entities/rows.rs", "update", OF_A_TRANSACTION),
    ("explorer/mod.rs", "export", Tenant("Develop")),
    ("explorer/mod.rs", "next", OF_A_QUERY),
    ("explorer/mod.rs", "run", Tenant("Develop")),
    ("explorer/mod.rs", "table", Tenant("Develop")),
    ("management/functions.rs", "delete_function", System),
    ("management/functions.rs", "deploy_function", System),
    ("management/functions.rs", "functions", System),
    ("management/mod.rs", "performance_advice", System),
    ("management/mod.rs", "query", System),
    ("management/mod.rs", "query_read_only", System),
    ("management/mod.rs", "security_advice", System),
    ("management/mod.rs", "typescript_types", System),
    ("management/settings.rs", "api_keys", System),
    ("management/settings.rs", "create_api_key", System),
    ("management/settings.rs", "delete_api_key", System),
    ("management/settings.rs", "delete_secrets", System),
    ("management/settings.rs", "delete_signing_key", System),
    ("management/settings.rs", "distrust", System),
    ("management/settings.rs", "expose_schema", System),
    ("management/settings.rs", "exposed_schemas", System),
    ("management/settings.rs", "import_signing_key", System),
    ("management/settings.rs", "secrets", System),
    ("management/settings.rs", "set_secrets", System),
    ("management/settings.rs", "set_signing_key", System),
    ("management/settings.rs", "signing_keys", System),
    ("management/settings.rs", "trust_jwks", System),
    ("pool/mod.rs", "begin", Tenant("options.right")),
    ("pool/mod.rs", "begin_read_only", Tenant("options.right")),
    ("pool/mod.rs", "check", READINESS),
    ("pool/mod.rs", "with_tenant", Tenant("options.right")),
    ("schema/mod.rs", "audit", System),
    ("schema/mod.rs", "install", System),
    ("schema/mod.rs", "keys", System),
    ("schema/mod.rs", "pending", System),
    ("schema/mod.rs", "records", System),
    ("schema/mod.rs", "revoke", System),
    ("schema/mod.rs", "suspend", SystemOfApp),
    ("supabase.rs", "install", System),
    ("supabase.rs", "plan", System),
    ("supabase.rs", "records", System),
    ("tokens/mod.rs", "check", READINESS),
    ("tokens/mod.rs", "issue", Nothing("is asked by whoever serves an app, which decides who is who")),
    ("tx/connection.rs", "cancel", OF_A_TRANSACTION),
    ("tx/mod.rs", "commit", OF_A_TRANSACTION),
    ("tx/mod.rs", "define", OF_A_TRANSACTION),
    ("tx/mod.rs", "execute", OF_A_TRANSACTION),
    ("tx/mod.rs", "query", OF_A_TRANSACTION),
    ("tx/mod.rs", "query_opt", OF_A_TRANSACTION),
    ("tx/mod.rs", "query_stream", OF_A_TRANSACTION),
    ("tx/mod.rs", "rollback", OF_A_TRANSACTION),
    ("tx/mod.rs", "simple", OF_A_TRANSACTION),
    ("validator/membership.rs", "check", READINESS),
    ("validator/membership.rs", "find", OF_THE_GATE),
    ("validator/membership.rs", "put", ATTESTED),
    ("validator/membership.rs", "remove", ATTESTED),
    ("validator/mod.rs", "check", READINESS),
    ("validator/mod.rs", "validate", OF_THE_GATE),
    ("validator/postgres.rs", "check", READINESS),
    ("validator/postgres.rs", "find", OF_THE_GATE),
    ("validator/postgres.rs", "install", Nothing("makes an empty table, as the database's owner")),
    ("validator/postgres.rs", "put", ATTESTED),
    ("validator/postgres.rs", "remove", ATTESTED),
    ("validator/refusals.rs", "append", Nothing("an audit log takes what is said; it opens nothing")),
    ("validator/refusals.rs", "check", READINESS),
    ("validator/refusals.rs", "read", Nothing("an audit log, which the host gives to whom it likes")),
    ("validator/refusals.rs", "verify", READINESS),
];

/// Signature and body of every public `async fn`, and of those that implement a seam, by file and name.
fn found() -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|it| it != "rs") || path.ends_with("entry_points.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let file = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            // Blocks begin in the first column.
            for block in text.split("\n}\n") {
                let implements = block.lines().any(|it| it.starts_with("impl") && it.contains(" for "));
                let mark = if implements { "\n    async fn " } else { "\n    pub async fn " };
                for part in block.split(mark).skip(1) {
                    let name = part.split(['(', '<']).next().unwrap().to_owned();
                    let body = part.split("\n    }\n").next().unwrap().to_owned();
                    found.insert((file.clone(), name), body);
                }
            }
        }
    }
    found
}

#[test]
fn every_entry_point_wants_a_grant_or_says_why_not() {
    let mut found = found();
    for (file, name, wants) in ENTRY_POINTS {
        let body = found.remove(&((*file).to_owned(), (*name).to_owned()));
        let body = body.unwrap_or_else(|| panic!("{file}: {name} is listed, and is not there"));
        let signature = body.split(" {\n").next().unwrap();
        let (tenant, system) = (signature.contains("&TenantGrant"), signature.contains("&SystemGrant"));
        let right = match wants {
            Tenant(_) => tenant && !system,
            System | SystemOfApp => system && !tenant,
            Token => signature.contains("&ApiRequest") && !tenant && !system,
            Nothing(_) => !tenant && !system,
        };
        assert!(right, "{file}: {name} is listed with {wants:?}, but takes {signature}");
    }
    assert!(found.is_empty(), "not listed with what they want: {:?}", found.keys());
}

/// That a grant is taken is not enough: somebody has to look at it. Each looks itself, or calls one that does.
#[test]
fn every_grant_is_looked_at() {
    let found = found();
    for (file, name, wants) in ENTRY_POINTS.iter().filter(|it| !matches!(it.2, Nothing(_) | Token)) {
        let body = &found[&((*file).to_owned(), (*name).to_owned())];
        let after = body.split_once(" {\n").unwrap().1;
        let looks: &[&str] = match wants {
            System => &["permit_all(grant)", "permit(grant)", "self.advice(grant", "self.exposed_schemas(grant)"],
            SystemOfApp => &["gate.permit(", "self.permit(grant, scope)", "gate().permit(&Grant"],
            _ => &[
                "begin_as(grant",
                "self.begin(grant",
                ".permit(grant",
                ".permit(&grant",
                "self.run(grant",
                "self.unfinished(grant",
            ],
        };
        let hands_on = *file == "supabase.rs" && after.contains("grant");
        assert!(hands_on || looks.iter().any(|it| after.contains(it)), "{file}: {name} looks at no grant:\n{after}");
    }
}
