//! A list of everything in this crate that can be called, and what each wants before it touches a tenant's data or the walls
//! between tenants. Whoever adds something adds it here: to [`ENTRY_POINTS`], or to [`ACTS_ON_NOTHING`] with the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// A `TenantGrant` of its gate, with this right.
    Tenant(&'static str),
    /// A `SystemGrant` of its gate, for all apps.
    System,
    /// A `SystemGrant` of its gate, for the app.
    SystemOfApp,
    /// A `SystemGrant` that it was made with, and asks its gate about each time.
    Kept,
    /// A token, which its gate makes a grant of.
    Token,
    /// Nothing, for this reason.
    Nothing(&'static str),
}
use Wants::{Kept, Nothing, System, SystemOfApp, Tenant, Token};

const OF_A_TRANSACTION: Wants = Nothing("a transaction was begun with a grant");
const OF_A_QUERY: Wants = Nothing("a query was begun with a grant");
const READINESS: Wants = Nothing("says whether it can be used, and nothing of tenants");
const OF_THE_GATE: Wants = Nothing("is what a gate asks; what it finds is nobody's before the gate has judged");

const ENTRY_POINTS: &[(&str, &str, Wants)] = &[
    ("editor/mod.rs", "abandon", Tenant("Develop")),
    ("editor/mod.rs", "apply", Tenant("Develop")),
    ("editor/mod.rs", "history", Tenant("Develop")),
    ("editor/mod.rs", "plan", Tenant("Develop")),
    ("editor/mod.rs", "rehearse", Tenant("Develop")),
    ("editor/mod.rs", "resume", Tenant("Develop")),
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
    ("inspector/mod.rs", "inspect", Tenant("Develop")),
    ("inspector/mod.rs", "prepare", SystemOfApp),
    ("inspector/mod.rs", "query", OF_A_TRANSACTION),
    ("inspector/owner.rs", "query", OF_A_TRANSACTION),
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
    ("management/settings.rs", "has_public_channels", System),
    ("management/settings.rs", "import_signing_key", System),
    ("management/settings.rs", "secrets", System),
    ("management/settings.rs", "set_public_channels", System),
    ("management/settings.rs", "set_secrets", System),
    ("management/settings.rs", "set_signing_key", System),
    ("management/settings.rs", "signing_keys", System),
    ("management/settings.rs", "trust_jwks", System),
    ("placement/mod.rs", "project", Nothing("says where a project is, and the mover asks it after its grant")),
    ("placement/mover.rs", "abort", SystemOfApp),
    ("placement/mover.rs", "current", SystemOfApp),
    ("placement/mover.rs", "drop_old", SystemOfApp),
    ("placement/mover.rs", "placement", SystemOfApp),
    ("placement/mover.rs", "relocate", SystemOfApp),
    ("placement/mover.rs", "resume", SystemOfApp),
    ("placement/mover.rs", "sweep", System),
    ("placement/mover.rs", "unfinished", System),
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
    ("supabase.rs", "revoke", System),
    ("tokens/mod.rs", "check", READINESS),
    ("tokens/mod.rs", "granted", SystemOfApp),
    ("tokens/mod.rs", "issue", Kept),
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
    ("validator/membership.rs", "insert", SystemOfApp),
    ("validator/membership.rs", "put", SystemOfApp),
    ("validator/membership.rs", "remove", SystemOfApp),
    ("validator/mod.rs", "check", READINESS),
    ("validator/mod.rs", "revoke", System),
    ("validator/mod.rs", "revoke_subject", System),
    ("validator/mod.rs", "validate", OF_THE_GATE),
    ("validator/postgres.rs", "check", READINESS),
    ("validator/postgres.rs", "find", OF_THE_GATE),
    ("validator/postgres.rs", "install", System),
    ("validator/postgres.rs", "put", SystemOfApp),
    ("validator/postgres.rs", "remove", SystemOfApp),
];

/// Why something that is called and not awaited wants no grant. There is no I/O behind any of them.
const MAKES: &str = "makes a value of what it is given: a name, a setting, a key of the host's own";
const SETS: &str = "changes a setting of a value that nobody uses yet";
const SAYS: &str = "says what a value holds, which the caller has";
const PARTS: &str = "makes a part whose every entry point wants a grant";
const OF_KEYS: &str = "counts with a key, which the caller has";
const OF_CALLS: &str = "is of a transaction or a query that was begun with a grant";

/// What is called and not awaited, by file, reason and names; `new*2` stands for two of that name.
const ACTS_ON_NOTHING: &[(&str, &str, &str)] = &[
    ("context.rs", MAKES, "parse*2 generate*2 new of_token"),
    ("context.rs", SETS, "accept"),
    ("context.rs", SAYS, "id current"),
    ("editor/change.rs", MAKES, "new"),
    ("editor/change.rs", SETS, "required default_to"),
    ("editor/change.rs", SAYS, "table event"),
    ("editor/history.rs", SAYS, "migration"),
    ("editor/limits.rs", MAKES, "new"),
    ("editor/limits.rs", SETS, "rows bytes locks timeouts batch_pages"),
    ("editor/mod.rs", PARTS, "new"),
    ("editor/mod.rs", SETS, "limits progress clock ids"),
    ("editor/name.rs", MAKES, "parse"),
    ("editor/name.rs", SAYS, "as_str"),
    ("editor/plan.rs", SAYS, "blocks_writes blocks_reads strongest_lock rewrites is_destructive statements"),
    ("editor/plan.rs", SETS, "confirm"),
    ("editor/rehearsal.rs", SAYS, "is_as_planned*2"),
    ("editor/types.rs", MAKES, "parse"),
    ("entities/mod.rs", PARTS, "new"),
    ("entities/mod.rs", SETS, "clock ids"),
    ("explorer/export.rs", SAYS, "media_type"),
    ("explorer/mod.rs", PARTS, "new*3"),
    ("explorer/mod.rs", SETS, "rows bytes concurrency timeout page descending after clock projects"),
    ("explorer/mod.rs", OF_CALLS, "columns cut canceller"),
    ("gateway.rs", SAYS, "gateway_function"),
    ("inspector/info.rs", SAYS, "table fingerprint to_json to_typescript column"),
    ("inspector/mod.rs", PARTS, "shared own new"),
    ("install.rs", SAYS, "is_empty iter"),
    ("management/functions.rs", MAKES, "new"),
    ("management/functions.rs", SETS, "verify_jwt file"),
    ("management/functions.rs", SAYS, "slug paths"),
    ("management/mod.rs", MAKES, "parse"),
    ("management/mod.rs", PARTS, "new with"),
    ("management/mod.rs", SAYS, "as_str url quota project"),
    ("management/settings.rs", MAKES, "parse"),
    ("management/settings.rs", SAYS, "as_str key"),
    ("placement/mod.rs", MAKES, "parse new*2"),
    ("placement/mod.rs", SETS, "with"),
    ("placement/mod.rs", SAYS, "as_str"),
    ("placement/mover.rs", PARTS, "new"),
    ("placement/mover.rs", SETS, "projects progress drain most keep_old clock ids"),
    ("placement/mover.rs", SAYS, "as_str is_over"),
    ("pool/mod.rs", PARTS, "new*3"),
    ("pool/mod.rs", SETS, "connections_per_app connections*2 waiting_per_app wait statement_timeout connect_timeout"),
    ("pool/mod.rs", SETS, "transaction plans right projects route_age clock ids"),
    ("pool/mod.rs", SAYS, "gate"),
    ("pool/mod.rs", "closes connections in which nobody has a transaction", "close_idle"),
    ("schema/mod.rs", PARTS, "new"),
    (
        "supabase.rs",
        PARTS,
        "connect build validator gate issuer*2 memberships schema tenants entities explorer inspector",
    ),
    ("supabase.rs", PARTS, "editor mover management"),
    ("supabase.rs", SAYS, "gateway"),
    (
        "supabase.rs",
        SETS,
        "passwords contexts signing_key also_publish membership_keys trust pooler records_url certificates pool",
    ),
    ("supabase.rs", SETS, "explorer_limits access_token publishable_key public_channels api_base transport clock ids"),
    ("tokens/key.rs", MAKES, "generate from_pkcs8"),
    ("tokens/key.rs", SAYS, "to_pkcs8 kid public_jwk private_jwk"),
    ("tokens/mod.rs", PARTS, "new"),
    ("tokens/mod.rs", SETS, "ttl also_publish ids"),
    ("tokens/mod.rs", SAYS, "issuer jwks"),
    ("tx/connection.rs", MAKES, "parse"),
    ("tx/connection.rs", SETS, "trusting role"),
    ("tx/mod.rs", OF_CALLS, "table scope subject session canceller"),
    ("validator/jwks.rs", MAKES, "new"),
    ("validator/jwks.rs", SETS, "max_age max_stale cooldown"),
    ("validator/keys.rs", MAKES, "none from_jwks"),
    ("validator/keys.rs", SETS, "legacy_secret"),
    ("validator/membership.rs", MAKES, "stored"),
    ("validator/membership.rs", SETS, "also"),
    ("validator/membership.rs", OF_KEYS, "attest attests"),
    ("validator/membership.rs", PARTS, "new*2"),
    ("validator/mod.rs", MAKES, "builder build"),
    ("validator/mod.rs", SETS, "trust memberships max_token_bytes max_cached membership_ttl"),
    ("validator/postgres.rs", PARTS, "new"),
    ("validator/postgres.rs", SETS, "clock"),
    ("validator/trust.rs", MAKES, "users apps both"),
    ("validator/trust.rs", SETS, "audience attested leeway max_lifetime"),
];

/// Traits of the language's own, which act on a value alone.
const PLAIN_TRAITS: &[&str] =
    &["AsyncRead", "AsyncWrite", "Debug", "Default", "Deserialize<'de>", "Display", "Drop", "FromStr", "Stream"];

/// Signature and body of every public function, and of those that implement a seam, by file and name.
fn found() -> BTreeMap<(String, String), Vec<String>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
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
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let file = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            for (name, body) in functions(text) {
                found.entry((file.clone(), name)).or_default().push(body);
            }
        }
    }
    found
}

/// The functions of one file that others can call.
fn functions(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    // Blocks begin in the first column.
    for block in text.split("\n}\n") {
        let implements = block.lines().find(|it| it.starts_with("impl") && it.contains(" for "));
        let of_a_seam = implements.is_some_and(|head| {
            let of = head.split(" for ").next().unwrap().rsplit([' ', ':']).next().unwrap();
            !PLAIN_TRAITS.contains(&of) && !of.starts_with("From<") && !of.starts_with("TryFrom<")
        });
        let declares = block.lines().any(|it| it.starts_with("pub trait "));
        let marks: &[&str] = if implements.is_some() || declares { &["    "] } else { &["    pub ", "pub "] };
        if implements.is_some() && !of_a_seam {
            continue;
        }
        for mark in marks {
            for word in ["fn ", "async fn ", "const fn ", "const async fn "] {
                let mark = format!("\n{mark}{word}");
                for part in block.split(&mark).skip(1) {
                    let name = part.split(['(', '<']).next().unwrap().to_owned();
                    // What a trait declares has no body of its own.
                    if !part.split('\n').next().unwrap().ends_with(';') || !declares {
                        found.push((name, part.split("\n    }\n").next().unwrap().to_owned()));
                    }
                }
            }
        }
    }
    found
}

/// What is listed and what is there are the same.
#[test]
fn everything_that_can_be_called_is_listed() {
    let acts: BTreeSet<_> = ENTRY_POINTS.iter().map(|(file, name, _)| format!("{file}: {name}")).collect();
    assert_eq!(acts.len(), ENTRY_POINTS.len(), "one is listed twice");
    // Of those that act, each of a name is looked at below.
    let there: BTreeSet<_> = found()
        .into_iter()
        .map(|((file, name), bodies)| match bodies.len() {
            many if many > 1 && !acts.contains(&format!("{file}: {name}")) => format!("{file}: {name}*{many}"),
            _ => format!("{file}: {name}"),
        })
        .collect();
    let others =
        ACTS_ON_NOTHING.iter().flat_map(|(file, _, names)| names.split(' ').map(move |it| format!("{file}: {it}")));
    let mut listed = BTreeSet::new();
    for it in acts.clone().into_iter().chain(others) {
        assert!(listed.insert(it.clone()), "{it} is listed twice");
    }
    let new: Vec<_> = there.difference(&listed).collect();
    assert!(new.is_empty(), "not listed with what they want: {new:?}");
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(gone.is_empty(), "listed, and not there: {gone:?}");
}

/// The lists are worth what the eye that compares them sees.
#[test]
fn a_new_function_is_seen_whatever_it_is() {
    let text = "
pub fn one() {
}

impl Thing {
    pub fn two(&self) {
    }

    pub async fn three<T>(&self) {
    }

    fn hidden(&self) {
    }

    pub(crate) fn within(&self) {
    }

    pub const fn four() {
    }
}

impl fmt::Debug for Thing {
    fn fmt(&self) {
    }
}

impl AppTokens for Thing {
    async fn five(&self) {
    }

    fn six(&self) {
    }
}
";
    let names: BTreeSet<_> = functions(text).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["five", "four", "one", "six", "three", "two"]);
}

#[test]
fn every_entry_point_wants_a_grant_or_says_why_not() {
    let found = found();
    let all = ENTRY_POINTS.iter().flat_map(|(file, name, wants)| {
        found[&((*file).to_owned(), (*name).to_owned())].iter().map(move |body| (file, name, wants, body))
    });
    for (file, name, wants, body) in all {
        let signature = body.split(" {\n").next().unwrap();
        let (tenant, system) = (signature.contains("&TenantGrant"), signature.contains("&SystemGrant"));
        let right = match wants {
            Tenant(_) => tenant && !system,
            System | SystemOfApp => system && !tenant,
            Token => signature.contains("&ApiRequest") && !tenant && !system,
            Kept | Nothing(_) => !tenant && !system,
        };
        assert!(right, "{file}: {name} is listed with {wants:?}, but takes {signature}");
    }
}

/// That a grant is taken is not enough: somebody has to look at it. Each looks itself, or calls one that does.
#[test]
fn every_grant_is_looked_at() {
    let found = found();
    for (file, name, wants) in ENTRY_POINTS.iter().filter(|it| !matches!(it.2, Nothing(_) | Token)) {
        let looks: &[&str] = match wants {
            System => &["permit_all(g", "permit(grant)", "self.advice(grant", "self.exposed_schemas(grant)"],
            SystemOfApp => {
                &[
                    "gate.permit(",
                    "self.permit(grant, scope)",
                    "gate().permit(&Grant",
                    "permit_app(gate, grant, ",
                    "self.insert(gate, grant, ",
                    // It is kept, and `issue` asks about it.
                    "grant: grant.clone()",
                ]
            }
            Kept => &["self.gate.permit(&self.grant, scope, "],
            _ => &[
                "begin_as(grant",
                "self.begin(grant",
                ".permit(grant",
                ".permit(&grant",
                "self.run(grant",
                "self.unfinished(grant",
            ],
        };
        for body in &found[&((*file).to_owned(), (*name).to_owned())] {
            let after = body.split_once(" {\n").unwrap().1;
            let hands_on = *file == "supabase.rs" && after.contains("grant");
            assert!(
                hands_on || looks.iter().any(|it| after.contains(it)),
                "{file}: {name} looks at no grant:\n{after}"
            );
        }
    }
}
