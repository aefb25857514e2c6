//! The metadata of an upload: what is sent beside the modules.

use overskill_core::{DeployRequest, EnvKey, EnvValue, Error, ErrorKind, Result, Secret};
use serde::{Serialize, Serializer};

/// Most variables that a Worker may have.
const MAX_VARIABLES: usize = 128;
/// Largest value of a variable in bytes.
const MAX_VARIABLE_BYTES: usize = 5 * 1024;
/// The binding of an app's static assets.
pub(crate) const ASSETS: &str = "ASSETS";

/// What an upload says of a script.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Metadata {
    pub(crate) main_module: String,
    pub(crate) compatibility_date: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) compatibility_flags: Vec<String>,
    pub(crate) bindings: Vec<Binding>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<WorkerLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) assets: Option<Assets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) migrations: Option<Migrations>,
}

/// What a script may use for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WorkerLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subrequests: Option<u32>,
}

/// A script's static assets.
#[derive(Debug, Serialize)]
pub(crate) struct Assets {
    #[serde(serialize_with = "exposed")]
    pub(crate) jwt: Secret,
    pub(crate) config: AssetsConfig,
}

/// How they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AssetsConfig {
    pub(crate) html_handling: &'static str,
    pub(crate) not_found_handling: &'static str,
}

/// Classes that are new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Migrations {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) old_tag: Option<String>,
    pub(crate) new_tag: String,
    pub(crate) steps: Vec<MigrationStep>,
}

/// One step of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MigrationStep {
    pub(crate) new_sqlite_classes: Vec<String>,
}

/// Something that a script finds in `env`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Binding {
    PlainText {
        name: String,
        text: String,
    },
    SecretText {
        name: String,
        #[serde(serialize_with = "exposed")]
        text: Secret,
    },
    Json {
        name: String,
        json: serde_json::Value,
    },
    Assets {
        name: String,
    },
    DurableObjectNamespace {
        name: String,
        class_name: String,
    },
    KvNamespace {
        name: String,
        namespace_id: String,
    },
    R2Bucket {
        name: String,
        bucket_name: String,
    },
    DispatchNamespace {
        name: String,
        namespace: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        outbound: Option<Outbound>,
    },
    WorkerLoader {
        name: String,
    },
    /// As it is already.
    Inherit {
        name: String,
    },
}

/// The Worker that sees what tenants' code fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Outbound {
    pub(crate) worker: OutboundWorker,
    pub(crate) params: Vec<OutboundParam>,
}

/// Its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OutboundWorker {
    pub(crate) service: String,
}

/// Something that the dispatcher tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OutboundParam {
    pub(crate) name: String,
}

fn exposed<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose())
}

impl Binding {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::PlainText { name, .. }
            | Self::SecretText { name, .. }
            | Self::Json { name, .. }
            | Self::Assets { name }
            | Self::DurableObjectNamespace { name, .. }
            | Self::KvNamespace { name, .. }
            | Self::R2Bucket { name, .. }
            | Self::DispatchNamespace { name, .. }
            | Self::WorkerLoader { name }
            | Self::Inherit { name } => name,
        }
    }

    /// A variable as an app finds it: as text, or as text that the API never shows again.
    pub(crate) fn variable(key: &EnvKey, value: &EnvValue) -> Result<Self> {
        let bytes = value.expose().len();
        if bytes > MAX_VARIABLE_BYTES {
            let message = format!("env value must be at most {MAX_VARIABLE_BYTES} bytes here, but has {bytes}");
            return Err(Error::new(ErrorKind::LimitExceeded, message).with("key", key));
        }
        let name = key.to_string();
        Ok(match value {
            EnvValue::Plain(text) => Self::PlainText { name, text: text.clone() },
            EnvValue::Sealed(secret) => Self::SecretText { name, text: secret.clone() },
        })
    }
}

/// The bindings of a request: its variables, what the platform says of itself, assets and Durable Objects.
pub(super) fn bindings(request: &DeployRequest, classes: &[super::DurableClass]) -> Result<Vec<Binding>> {
    let values = &request.env().values;
    if values.len() > MAX_VARIABLES {
        let message = format!("env must have at most {MAX_VARIABLES} variables here, but has {}", values.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let mut bindings: Vec<Binding> =
        values.iter().map(|(key, value)| Binding::variable(key, value)).collect::<Result<_>>()?;
    let scope = request.scope();
    for (name, text) in [
        ("OVERSKILL_APP", scope.app.to_string()),
        ("OVERSKILL_DEPLOYMENT", request.id().to_string()),
        ("OVERSKILL_ENVIRONMENT", scope.environment.to_string()),
    ] {
        bindings.push(Binding::PlainText { name: name.to_owned(), text });
    }
    if !request.artifact().assets().is_empty() {
        bindings.push(Binding::Assets { name: ASSETS.to_owned() });
    }
    for class in classes {
        let (name, class_name) = (class.binding.clone(), class.class.clone());
        bindings.push(Binding::DurableObjectNamespace { name, class_name });
    }
    check_names(&bindings)?;
    Ok(bindings)
}

/// Refuses two bindings of one name: the later one would take the place of the first, and nobody would notice.
fn check_names(bindings: &[Binding]) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    match bindings.iter().find(|binding| !seen.insert(binding.name())) {
        Some(twice) => Err(Error::invalid(format!(
            "variable must not have the name of a binding of the platform, but is called {:?}: rename it",
            twice.name()
        ))),
        None => Ok(()),
    }
}

/// The limits that a request asks for.
pub(super) fn limits(request: &DeployRequest) -> Result<Option<WorkerLimits>> {
    /// What an isolate has; it cannot be less, nor more.
    const MEMORY_BYTES: u64 = 128 * 1024 * 1024;
    let asked = request.allowed();
    if let Some(bytes) = asked.memory_bytes.filter(|bytes| bytes.get() > MEMORY_BYTES) {
        let message = format!("memory must be at most {MEMORY_BYTES} bytes, but was {bytes}");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let limits = WorkerLimits {
        cpu_ms: asked.cpu_ms.map(std::num::NonZeroU32::get),
        subrequests: asked.subrequests.map(std::num::NonZeroU32::get),
    };
    Ok(Some(limits).filter(|limits| limits.cpu_ms.is_some() || limits.subrequests.is_some()))
}
