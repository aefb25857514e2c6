use super::{NAME, Shared};
use crate::{
    Artifact, BuildRequest, Builder, Error, FilePath, Health, HealthProbe, Notice, Notifier, ProbeRequest, Readiness,
    Result,
};
use async_trait::async_trait;
use std::collections::VecDeque;

/// A builder that takes the sources as the site: what is written is what is served.
#[derive(Clone, Copy, Debug, Default)]
pub struct StaticBuilder;

#[async_trait]
impl Builder for StaticBuilder {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("static"))
    }

    async fn build(&self, request: &BuildRequest) -> Result<Artifact> {
        let files = &request.snapshot.files;
        if !files.contains_key(&FilePath::parse("index.html")?) {
            let e = Error::invalid("the app must have a file `index.html`, but has none: write one");
            return Err(e.at("static", "build").with("scope", &request.scope));
        }
        Artifact::of_assets(files.iter().map(|(path, file)| (path.clone(), file.clone())))
    }
}

/// A probe that finds what it is told to find; nothing but health, if it is told nothing. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryProbe(Shared<Script>);

struct Script {
    next: VecDeque<Result<Health>>,
    otherwise: Health,
    asked: Recent<ProbeRequest>,
}

impl MemoryProbe {
    /// A probe that finds everything healthy.
    pub fn new() -> Self {
        let (next, asked) = (VecDeque::new(), Recent::default());
        Self(Shared::new(Script { next, otherwise: Health::Healthy, asked }))
    }

    /// Answers the next call that has no answer yet with `answer`.
    pub fn answer(&self, answer: Result<Health>) {
        self.0.lock().next.push_back(answer);
    }

    /// Answers every call that has no answer of its own with `health`.
    pub fn otherwise(&self, health: Health) {
        self.0.lock().otherwise = health;
    }

    /// What it was asked, oldest first; at most the last 1,000.
    pub fn asked(&self) -> Vec<ProbeRequest> {
        self.0.lock().asked.list()
    }
}

impl Default for MemoryProbe {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl HealthProbe for MemoryProbe {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn probe(&self, request: &ProbeRequest) -> Result<Health> {
        let mut script = self.0.lock();
        script.asked.push(request.clone());
        script.next.pop_front().unwrap_or_else(|| Ok(script.otherwise.clone()))
    }
}

/// Keeps notices for whoever looks. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryNotifier(Shared<Recent<Notice>>);

impl MemoryNotifier {
    /// One that was told nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it was told, oldest first; at most the last 1,000.
    pub fn notices(&self) -> Vec<Notice> {
        self.0.lock().list()
    }
}

#[async_trait]
impl Notifier for MemoryNotifier {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn notify(&self, notice: &Notice) -> Result<()> {
        self.0.lock().push(notice.clone());
        Ok(())
    }
}

/// The last 1,000 of something.
struct Recent<T>(VecDeque<T>);

impl<T: Clone> Recent<T> {
    fn push(&mut self, item: T) {
        if self.0.len() == 1_000 {
            self.0.pop_front();
        }
        self.0.push_back(item);
    }

    fn list(&self) -> Vec<T> {
        self.0.iter().cloned().collect()
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildMode, ErrorKind, Incarnation, Scope, Snapshot, StreamPosition};
    use std::{collections::BTreeMap, sync::Arc};

    #[tokio::test]
    async fn the_sources_are_the_site() {
        let path = |s: &str| FilePath::parse(s).unwrap();
        let build = async |files: &[&str]| {
            let files: BTreeMap<_, _> = files.iter().map(|f| (path(f), (*f).to_owned().into())).collect();
            let snapshot = Snapshot::new(StreamPosition::start(Incarnation::from_u64(1)), files);
            let scope = Scope::sources("todo42".try_into().unwrap());
            StaticBuilder.build(&BuildRequest::new(scope, Arc::new(snapshot), BuildMode::Production)).await
        };
        assert_eq!(build(&["index.html", "a.js"]).await.unwrap().assets().len(), 2);
        let e = build(&["a.js"]).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.public_message().contains("`index.html`"), "{e}");
    }

    #[tokio::test]
    async fn a_probe_follows_its_script_and_then_its_rule() {
        let probe = MemoryProbe::new();
        let sick = |reason: &str| Health::Unhealthy { reason: reason.into() };
        probe.answer(Err(Error::new(ErrorKind::Timeout, "no answer")));
        probe.answer(Ok(sick("500")));
        let request = ProbeRequest::new("todo42/staging".parse().unwrap(), "https://x.test".try_into().unwrap());
        assert_eq!(probe.probe(&request).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(probe.probe(&request).await.unwrap(), sick("500"));
        assert_eq!(probe.probe(&request).await.unwrap(), Health::Healthy);
        probe.otherwise(sick("down"));
        assert_eq!(probe.probe(&request).await.unwrap(), sick("down"));
        assert_eq!(probe.asked(), vec![request; 4]);
    }

    #[tokio::test]
    async fn only_so_many_notices_are_kept() {
        let notifier = MemoryNotifier::new();
        for n in 0..1_001 {
            notifier.notify(&Notice::Backend { name: "kv".into(), message: format!("{n}") }).await.unwrap();
        }
        let kept = notifier.notices();
        assert_eq!(kept.len(), 1_000);
        assert_eq!(kept[0], Notice::Backend { name: "kv".into(), message: "1".into() });
    }
}
