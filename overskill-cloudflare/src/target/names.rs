//! What a script says of itself: its name, and tags that name deployment, artifact, variables and fence.

use crate::CloudflareBuilder;
use overskill_core::{
    AppId, DeployRequest, DeploymentId, Digest, EnvRevision, Error, ErrorKind, Fence, Result, Scope, StreamPosition,
};

/// Most tags on a script.
pub(super) const MAX_TAGS: usize = 8;
/// Longest tag in bytes that we make or take.
const MAX_TAG_BYTES: usize = 100;
/// What our own tags say, each before a dash.
const OWN_KEYS: [&str; 5] = ["app", "deployment", "digest", "env", "fence"];
/// Longest script name in bytes.
pub(super) const MAX_NAME_BYTES: usize = 63;

/// The script of a version: `{app}-{fence}`. A fence names one version for ever, so no script is ever overwritten by
/// another version, and the first upload under a name is live as soon as it was answered.
pub(super) fn of_version(app: &AppId, fence: Fence) -> String {
    format!("{app}-{fence}")
}

/// The script of a version that is staged under no fence yet.
pub(super) fn of_unfenced(app: &AppId, id: DeploymentId) -> String {
    let id = id.to_string().replace('-', "");
    // The end of an id is what is random in it.
    format!("{app}-0-{}", &id[id.len() - 16..])
}

/// The script of an app whose Durable Objects keep it in one place.
pub(super) fn in_place(app: &AppId) -> String {
    app.to_string()
}

/// Whether a script is one of an app's: its name begins with the app's id, which no dash is in.
pub(super) fn is_of(app: &AppId, script: &str) -> bool {
    script.strip_prefix(app.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The tag that every script of an app has.
pub(super) fn app_tag(app: &AppId) -> String {
    format!("app-{app}")
}

/// Refuses a name that the API would refuse.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.len() > MAX_NAME_BYTES {
        let message = format!("script name must be at most {MAX_NAME_BYTES} bytes, but has {}", name.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    Ok(())
}

/// Refuses more tags than fit, and what means something in the filter of a listing.
pub(super) fn check_tags(tags: &[String]) -> Result<()> {
    if tags.len() > MAX_TAGS {
        let message = format!("script must have at most {MAX_TAGS} tags, but has {}", tags.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let legal = |tag: &&String| {
        let marks = |c: char| c.is_ascii_graphic() && !",&:".contains(c);
        !tag.is_empty() && tag.len() <= MAX_TAG_BYTES && tag.chars().all(marks)
    };
    match tags.iter().find(|tag| !legal(tag)) {
        Some(bad) => {
            let shown: String = bad.chars().take(40).collect();
            Err(Error::invalid(format!(
                "tag must be 1 to {MAX_TAG_BYTES} visible ASCII characters without comma, & and colon, but was {shown:?}"
            )))
        }
        None => Ok(()),
    }
}

/// The same for a host's own tags, which leave room for ours and look like none of them: every script has them, so that an
/// app whose tag is among them would be all apps, and its removal theirs.
pub(crate) fn check_own_tags(tags: &[String]) -> Result<()> {
    let max = CloudflareBuilder::MAX_TAGS;
    if tags.len() > max {
        return Err(Error::invalid(format!("tags must be at most {max}, but are {}", tags.len())));
    }
    check_tags(tags)?;
    let is_ours = |tag: &String| {
        let key = tag.split_once('-').map(|(key, _)| key.to_ascii_lowercase());
        key.is_some_and(|key| OWN_KEYS.contains(&&*key))
    };
    match tags.iter().find(|tag| is_ours(tag)) {
        Some(bad) => {
            let ours = OWN_KEYS.map(|key| format!("{key}-")).join(", ");
            let shown: String = bad.chars().take(40).collect();
            Err(Error::invalid(format!(
                "tags must not begin with {ours}, which name apps and their versions, but one was {shown:?}: rename it"
            )))
        }
        None => Ok(()),
    }
}

/// What the tags of a script say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) app: AppId,
    pub(super) id: DeploymentId,
    pub(super) digest: Digest,
    pub(super) env: EnvRevision,
    pub(super) fence: Fence,
}

impl Label {
    pub(super) fn of(request: &DeployRequest, fence: Fence) -> Self {
        Self {
            app: request.scope().app.clone(),
            id: request.id(),
            digest: request.digest(),
            env: request.env_revision(),
            fence,
        }
    }

    /// As tags, with those of the host.
    pub(super) fn tags(&self, own: &[String]) -> Vec<String> {
        let env = self.env.to_string().replace(':', ".");
        let (id, digest, fence) = (self.id.to_string(), self.digest.to_string(), self.fence.to_string());
        let says = [self.app.to_string(), id, digest, env, fence];
        let ours = OWN_KEYS.iter().zip(says).map(|(key, value)| format!("{key}-{value}"));
        ours.chain(own.iter().cloned()).collect()
    }

    /// What tags say, if they are ours.
    pub(super) fn read(tags: &[String]) -> Option<Self> {
        let value = |key: &str| tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix('-'));
        let env: StreamPosition = value("env")?.replacen('.', ":", 1).parse().ok()?;
        Some(Self {
            app: AppId::parse(value("app")?).ok()?,
            id: value("deployment")?.parse().ok()?,
            digest: value("digest")?.parse().ok()?,
            env: EnvRevision(env),
            fence: Fence::from_u64(value("fence")?.parse().ok()?),
        })
    }

    /// The id is the idempotency key: with something else it is a conflict.
    pub(super) fn admit(&self, request: &DeployRequest) -> Result<()> {
        if self.digest != request.digest() {
            return Err(Error::conflict("the deployment is here with another artifact"));
        }
        if self.env != request.env_revision() {
            return Err(Error::conflict("the deployment is here with another revision of the variables"));
        }
        Ok(())
    }
}

/// Names the scope and the deployment of an error.
pub(super) fn about(e: Error, scope: &Scope, id: DeploymentId) -> Error {
    e.with("scope", scope).with("deployment", id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{Incarnation, SeededIds, Timestamp};
    use proptest::prelude::*;

    fn label(app: &str, fence: u64, life: u64, seq: u64) -> Label {
        Label {
            app: AppId::parse(app).unwrap(),
            id: DeploymentId::generate(&SeededIds::new(fence), Timestamp::from_unix_millis(1_794_000_000_000)),
            digest: Digest::of(app.as_bytes()),
            env: EnvRevision(StreamPosition::new(Incarnation::from_u64(life), seq)),
            fence: Fence::from_u64(fence),
        }
    }

    proptest! {
        #[test]
        fn tags_round_trip_and_fit(app in "[a-z0-9]{1,32}", fence: u64, life: u64, seq: u64) {
            prop_assume!(AppId::parse(&app).is_ok());
            let label = label(&app, fence, life, seq);
            let own: Vec<String> = ["team-a", "apps", "x"].map(String::from).into();
            prop_assert!(check_own_tags(&own).is_ok());
            let tags = label.tags(&own);
            prop_assert!(check_tags(&tags).is_ok());
            prop_assert_eq!(Label::read(&tags), Some(label.clone()));
            prop_assert!(check_name(&of_version(&label.app, label.fence)).is_ok());
            prop_assert!(check_name(&of_unfenced(&label.app, label.id)).is_ok());
        }
    }

    #[test]
    fn nine_tags_are_named_with_their_limit() {
        let tags: Vec<String> = (0..9).map(|n| format!("t{n}")).collect();
        let e = check_tags(&tags).unwrap_err();
        assert!(e.message().contains("at most 8 tags, but has 9"), "{e}");
        for bad in ["", "a,b", "a&b", "a:b", "a b", "ü"] {
            assert!(check_tags(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tag_of_a_host_looks_like_none_of_ours() {
        let ours = label("todo42", 1, 1, 1).tags(&[]);
        assert!(ours.contains(&app_tag(&AppId::parse("todo42").unwrap())));
        for tag in ours.into_iter().chain(["app-", "App-todo42", "FENCE-1"].map(String::from)) {
            let e = check_own_tags(&["team-a".to_owned(), tag.clone()]).unwrap_err();
            let said = e.message();
            assert!(
                said.contains("app-, deployment-, digest-, env-, fence-") && said.contains("rename it"),
                "{tag}: {e}"
            );
        }
        for fine in ["app", "application-7", "my-app-7", "deployments"] {
            assert!(check_own_tags(&[fine.to_owned()]).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_named_with_its_limit() {
        let e = check_name(&"x".repeat(64)).unwrap_err();
        assert!(e.message().contains("at most 63 bytes, but has 64"), "{e}");
    }

    #[test]
    fn a_script_is_of_the_app_that_its_name_begins_with() {
        let app = AppId::parse("bank7").unwrap();
        let id = DeploymentId::generate(&SeededIds::new(1), Timestamp::from_unix_millis(1_794_000_000_000));
        for own in [in_place(&app), of_version(&app, Fence::from_u64(3)), of_unfenced(&app, id)] {
            assert!(is_of(&app, &own), "{own}");
        }
        for other in ["bank70-3", "bank70", "bank-7", "bank", "", "x-bank7-3"] {
            assert!(!is_of(&app, other), "{other}");
        }
    }

    #[test]
    fn tags_of_others_are_nobodys() {
        assert_eq!(Label::read(&["app-x".into(), "fence-1".into()]), None);
        assert_eq!(Label::read(&[]), None);
    }
}
