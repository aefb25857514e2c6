//! Names: parsed once, then legal everywhere they go.

use crate::{ParseError, Timestamp, ids::IdsExt, parse::text_newtype};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr, sync::Arc};
use uuid::Uuid;

/// An app: 1 to 32 of `a-z` and `0-9`, and none of the [reserved names](AppId::RESERVED).
///
/// That makes it legal at once as part of a DNS label (RFC 1035), of a key-value key and of an SQL identifier, and
/// `app_{id}_{path}` is injective.
///
/// ```
/// use overskill_core::AppId;
/// assert_eq!(AppId::parse("todo42")?.as_str(), "todo42");
/// assert!(AppId::parse("www").is_err());
/// // An id of another system becomes an app id that never changes:
/// assert_eq!(AppId::derive("customer 7/app 12"), AppId::derive("customer 7/app 12"));
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppId(Arc<str>);

impl AppId {
    /// Longest id in bytes.
    pub const MAX_BYTES: usize = 32;

    /// Names that mean something else on a platform's domain.
    pub const RESERVED: [&'static str; 24] = [
        "admin",
        "api",
        "app",
        "apps",
        "assets",
        "auth",
        "cdn",
        "console",
        "dev",
        "docs",
        "ftp",
        "help",
        "localhost",
        "mail",
        "overskill",
        "preview",
        "production",
        "root",
        "staging",
        "static",
        "status",
        "support",
        "test",
        "www",
    ];

    /// Takes an id as it is.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let rule = if s.is_empty() || s.len() > Self::MAX_BYTES {
            "must be 1 to 32 bytes long"
        } else if !s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            "may hold only a-z and 0-9"
        } else if Self::RESERVED.binary_search(&s).is_ok() {
            "may not be a reserved name (www, api, …)"
        } else {
            return Ok(Self(s.into()));
        };
        Err(ParseError::new("app id", rule, s))
    }

    /// The id for an app that is known by another, longer or stranger, id elsewhere: 26 characters, 130 bits of its
    /// SHA-256, the same every time.
    pub fn derive(external: &str) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let digest = Sha256::digest(external.as_bytes());
        let id: String = (0..26)
            .map(|i| {
                let (byte, shift) = (i * 5 / 8, i * 5 % 8);
                let pair = u16::from(digest[byte]) << 8 | u16::from(digest[byte + 1]);
                char::from(ALPHABET[usize::from(pair >> (11 - shift) & 31)])
            })
            .collect();
        Self(id.into())
    }
}

text_newtype!(AppId);

/// Where an app runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// Where its sources live.
    Development,
    /// Live previews.
    Preview,
    /// The last stop before production.
    Staging,
    /// What the public sees.
    Production,
}

impl Environment {
    /// Every environment.
    pub const ALL: [Self; 4] = [Self::Development, Self::Preview, Self::Staging, Self::Production];

    /// Its name: `development`, `preview`, `staging` or `production`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Preview => "preview",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    /// Its URL form: what stands before the app's id in a host name (`preview-todo42`); empty for production.
    ///
    /// An app id holds no `-`, so the prefix can be told from the id.
    pub const fn host_prefix(self) -> &'static str {
        match self {
            Self::Development => "dev-",
            Self::Preview => "preview-",
            Self::Staging => "staging-",
            Self::Production => "",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Environment {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        Self::ALL
            .into_iter()
            .find(|e| e.as_str() == s)
            .ok_or_else(|| ParseError::new("environment", "must be development, preview, staging or production", s))
    }
}

/// An app in an environment: what every backend call is keyed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The app.
    pub app: AppId,
    /// The environment.
    pub environment: Environment,
}

impl Scope {
    /// `app` in `environment`.
    pub fn new(app: AppId, environment: Environment) -> Self {
        Self { app, environment }
    }

    /// Where `app`'s sources live.
    pub fn sources(app: AppId) -> Self {
        Self::new(app, Environment::Development)
    }

    /// The first label of the host name it is served under, such as `preview-todo42`.
    pub fn host_label(&self) -> String {
        format!("{}{}", self.environment.host_prefix(), self.app)
    }

    /// The scope that a [`host_label`](Self::host_label) names.
    pub fn from_host_label(label: &str) -> Result<Self, ParseError> {
        let (environment, app) = match label.split_once('-') {
            None => (Environment::Production, label),
            Some((prefix, app)) => {
                let known = |e: &Environment| e.host_prefix().strip_suffix('-') == Some(prefix);
                let environment = Environment::ALL.into_iter().find(known).ok_or_else(|| {
                    ParseError::new("host label", "must begin with dev-, preview- or staging-", label)
                })?;
                (environment, app)
            }
        };
        Ok(Self::new(AppId::parse(app)?, environment))
    }
}

/// `todo42/production`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.environment)
    }
}

impl FromStr for Scope {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let (app, environment) =
            s.split_once('/').ok_or_else(|| ParseError::new("scope", "must be `app/environment`", s))?;
        Ok(Self::new(AppId::parse(app)?, environment.parse()?))
    }
}

/// A user inside a tenant: 1 to 128 of `A-Z a-z 0-9 . _ : @ | + = -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectId(Arc<str>);

impl SubjectId {
    /// Longest id in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Takes an id as the identity provider gave it.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let rule = if s.is_empty() || s.len() > Self::MAX_BYTES {
            "must be 1 to 128 bytes long"
        } else if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@|+=-".contains(&b)) {
            "may hold only A-Z, a-z, 0-9 and . _ : @ | + = -"
        } else {
            return Ok(Self(s.into()));
        };
        Err(ParseError::new("subject id", rule, s))
    }
}

impl SubjectId {
    /// Whoever uses an app without having signed in. An identity provider that gives somebody this id gives them no more
    /// than visitors have.
    pub fn visitor() -> Self {
        Self("overskill|visitor".into())
    }
}

text_newtype!(SubjectId);

/// An app as isolation boundary: `app_{id}_tenant`, or one user's part of it: `app_{id}_user_{subject}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId {
    app: AppId,
    subject: Option<SubjectId>,
}

impl TenantId {
    /// The whole app.
    pub fn of_app(app: AppId) -> Self {
        Self { app, subject: None }
    }

    /// One user's part of the app.
    pub fn of_user(app: AppId, subject: SubjectId) -> Self {
        Self { app, subject: Some(subject) }
    }

    /// Takes `app_{id}_tenant` or `app_{id}_user_{subject}`, and nothing around it.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new("tenant id", "must be `app_{id}_tenant` or `app_{id}_user_{subject}`", s);
        let (app, rest) = s.strip_prefix("app_").and_then(|r| r.split_once('_')).ok_or_else(refuse)?;
        let app = AppId::parse(app)?;
        match rest.strip_prefix("user_") {
            Some(subject) => Ok(Self::of_user(app, SubjectId::parse(subject)?)),
            None if rest == "tenant" => Ok(Self::of_app(app)),
            None => Err(refuse()),
        }
    }

    /// The app.
    pub fn app(&self) -> &AppId {
        &self.app
    }

    /// The user, when it is one user's part.
    pub fn subject(&self) -> Option<&SubjectId> {
        self.subject.as_ref()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            None => write!(f, "app_{}_tenant", self.app),
            Some(subject) => write!(f, "app_{}_user_{subject}", self.app),
        }
    }
}

impl FromStr for TenantId {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        Self::parse(s)
    }
}

impl TryFrom<String> for TenantId {
    type Error = ParseError;
    fn try_from(s: String) -> Result<Self, ParseError> {
        Self::parse(&s)
    }
}

impl From<TenantId> for String {
    fn from(t: TenantId) -> String {
        t.to_string()
    }
}

/// Names of one shape: lower-case words for backends, jobs, keys and the like.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:literal, $extra:literal, $length:literal, $alphabet:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest name in bytes.
            pub const MAX_BYTES: usize = $max;

            /// Takes a name as it is.
            pub fn parse(s: &str) -> Result<Self, ParseError> {
                let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || $extra.contains(&b);
                let rule = if s.is_empty() || s.len() > $max {
                    $length
                } else if !s.bytes().all(legal) {
                    $alphabet
                } else {
                    return Ok(Self(s.into()));
                };
                Err(ParseError::new($field, rule, s))
            }
        }

        text_newtype!($name);
    };
}

word!(
    /// A backend as the host named it, such as `edge-eu`: 1 to 64 of `a-z 0-9 -`. Two accounts of one provider are two
    /// backends with two names.
    BackendName, "backend name", 64, b"-", "must be 1 to 64 bytes long", "may hold only a-z, 0-9 and -"
);
word!(
    /// A scheduled job, unique within its scope: 1 to 100 of `a-z 0-9 - _ .`.
    JobName, "job name", 100, b"-_.", "must be 1 to 100 bytes long", "may hold only a-z, 0-9 and - _ ."
);
word!(
    /// Who claims runs or leases: 1 to 64 of `a-z 0-9 - _ . :`.
    WorkerName, "worker name", 64, b"-_.:", "must be 1 to 64 bytes long", "may hold only a-z, 0-9 and - _ . :"
);
word!(
    /// A key in a [`KeyProvider`](crate::KeyProvider): 1 to 32 of `a-z 0-9 -`.
    KeyId, "key id", 32, b"-", "must be 1 to 32 bytes long", "may hold only a-z, 0-9 and -"
);

/// Ids that are UUIDs made from time and randomness.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id of the moment `now`.
            pub fn generate(ids: &dyn crate::Ids, now: Timestamp) -> Self {
                Self(ids.uuid_v7(now))
            }

            /// Takes a UUID of another source, such as a stored row.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The UUID.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// The moment it was made, to the millisecond, by the clock of whoever made it.
            pub fn made_at(self) -> Timestamp {
                let bytes = self.0.as_bytes();
                let millis = bytes[..6].iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
                Timestamp::from_unix_millis(millis)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(s: &str) -> Result<Self, ParseError> {
                let id = Uuid::try_parse(s).ok().filter(|_| s.len() == 36);
                id.map(Self).ok_or_else(|| ParseError::new($field, "must be a hyphenated UUID", s))
            }
        }
    };
}

uuid_id!(
    /// A deployment. It sorts by time and is the idempotency key everywhere: every target stores it.
    DeploymentId, "deployment id"
);
uuid_id!(
    /// One run of a job. The same id twice is one run.
    RunId, "run id"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededIds;
    use proptest::prelude::*;

    #[test]
    fn reserved_names_are_sorted_for_the_search() {
        assert!(AppId::RESERVED.is_sorted());
    }

    #[test]
    fn refusals_name_field_limit_and_what_was_given() {
        let shown = |e: ParseError| e.to_string();
        let long = "x".repeat(33);
        assert!(shown(AppId::parse(&long).unwrap_err()).starts_with("app id must be 1 to 32 bytes long"));
        assert!(shown(AppId::parse("api").unwrap_err()).contains("reserved"));
        assert!(shown(JobName::parse("a b").unwrap_err()).contains("job name may hold only"));
        assert!(shown("x".parse::<DeploymentId>().unwrap_err()).contains("UUID, but was \"x\""));
        assert!(shown("prod".parse::<Environment>().unwrap_err()).contains("development, preview"));
    }

    #[test]
    fn tenants_parse_whole_and_only_whole() {
        for good in ["app_todo42_tenant", "app_todo42_user_7f3e-x@y.z"] {
            assert_eq!(TenantId::parse(good).unwrap().to_string(), good);
        }
        for bad in ["evil_app_7_x", "app_7_x", "app__tenant", "app_7_tenant_", "app_7_user_", "app_A_tenant", ""] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_labels_round_trip() {
        for environment in Environment::ALL {
            let scope = Scope::new(AppId::parse("todo42").unwrap(), environment);
            assert_eq!(Scope::from_host_label(&scope.host_label()).unwrap(), scope);
            assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
        }
        assert!(Scope::from_host_label("prod-todo42").is_err());
        assert!(Scope::from_host_label("preview-dev-x").is_err());
    }

    #[test]
    fn ids_of_one_millisecond_differ() {
        let ids = SeededIds::new(1);
        let now = Timestamp::from_unix_millis(1_767_225_600_000);
        let a = DeploymentId::generate(&ids, now);
        assert_ne!(a, DeploymentId::generate(&ids, now));
        assert_eq!(a.to_string().parse::<DeploymentId>().unwrap(), a);
    }

    proptest! {
        #[test]
        fn parsers_never_panic_and_accepted_text_round_trips(s in ".{0,60}") {
            if let Ok(v) = AppId::parse(&s) { prop_assert_eq!(v.as_str(), &s); }
            if let Ok(v) = SubjectId::parse(&s) { prop_assert_eq!(v.as_str(), &s); }
            if let Ok(v) = BackendName::parse(&s) { prop_assert_eq!(v.as_str(), &s); }
            if let Ok(v) = JobName::parse(&s) { prop_assert_eq!(v.as_str(), &s); }
            if let Ok(v) = TenantId::parse(&s) { prop_assert_eq!(v.to_string(), s.clone()); }
            if let Ok(v) = s.parse::<Scope>() { prop_assert_eq!(v.to_string(), s.clone()); }
            if let Ok(v) = Scope::from_host_label(&s) { prop_assert_eq!(v.host_label(), s.clone()); }
            let _ = s.parse::<RunId>();
        }

        #[test]
        fn valid_ids_are_accepted(id in "[a-z0-9]{1,32}", subject in "[A-Za-z0-9._:@|+=-]{1,128}") {
            prop_assume!(!AppId::RESERVED.contains(&id.as_str()));
            let app = AppId::parse(&id).unwrap();
            let tenant = TenantId::of_user(app.clone(), SubjectId::parse(&subject).unwrap());
            prop_assert_eq!(TenantId::parse(&tenant.to_string()).unwrap(), tenant);
            let json = serde_json::to_string(&app).unwrap();
            prop_assert_eq!(serde_json::from_str::<AppId>(&json).unwrap(), app);
        }

        #[test]
        fn derived_ids_are_valid_and_differ(a in ".*", b in ".*") {
            let id = AppId::derive(&a);
            prop_assert_eq!(AppId::parse(id.as_str()).unwrap(), id.clone());
            prop_assert_eq!(a == b, id == AppId::derive(&b));
        }
    }
}
