//! What is written and read: the same for each contestant, and never the same twice where that would be less work.

use overskill_benches::{Outcome, PreparedCommit};
use overskill_core::{
    Actor, AppFile, Artifact, BackendName, Changes, Clock, Commit, DeploymentEnd, DeploymentEvent, DeploymentId,
    DeploymentSource, Digest, EnvRevision, Environment, Fence, FilePath, Handle, Incarnation, LeaseChange, Limits,
    Scope, SeededIds, Staged, StreamPosition, SystemClock, WorkerName,
};
use std::{fmt::Write as _, time::Duration};

/// Makes the work of one contestant.
pub(crate) struct Work {
    made: u64,
    ids: SeededIds,
}

/// An artifact, and what a peer would bind.
pub(crate) struct PreparedArtifact {
    pub(crate) artifact: Artifact,
    pub(crate) manifest: String,
    pub(crate) now: i64,
}

impl Default for Work {
    fn default() -> Self {
        Self { made: 0, ids: SeededIds::new(1) }
    }
}

impl Work {
    pub(crate) const FILE_BYTES: usize = 4 * 1024;
    const FILES: u32 = 60;

    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// One of an app's files.
    pub(crate) fn path(n: u32) -> Outcome<FilePath> {
        Ok(FilePath::parse(&format!("src/components/Part{:02}.tsx", n % Self::FILES))?)
    }

    /// The files that every new app has.
    pub(crate) fn template() -> Outcome<Changes> {
        let put = |changes: Changes, n| Ok(changes.put(Self::path(n)?, text(u64::from(n), Self::FILE_BYTES)));
        (0..Self::FILES).try_fold(Changes::new(), put)
    }

    /// One file of an app, with contents that nobody has.
    pub(crate) fn one_file(&mut self) -> Outcome<Changes> {
        let n = self.next();
        let path = Self::path(u32::try_from(n % u64::from(Self::FILES))?)?;
        Ok(Changes::new().put(path, text(1_000 + n, Self::FILE_BYTES)))
    }

    /// An app that nobody has.
    pub(crate) fn new_app(&mut self) -> Outcome<Scope> {
        Ok(Scope::sources(format!("app{}", self.next()).as_str().try_into()?))
    }

    /// An artifact that nobody has.
    pub(crate) fn artifact(&mut self) -> Outcome<PreparedArtifact> {
        let n = self.next();
        let asset = |place| {
            let path = FilePath::parse(&format!("assets/chunk-{place:02}.js"))?;
            Ok((path, AppFile::from(text(1_000_000 + 100 * n + place, 16 * 1024))))
        };
        let assets = (0..30).map(asset).collect::<Outcome<Vec<_>>>()?;
        let artifact = Artifact::of_assets(assets)?;
        let manifest = serde_json::to_string(&artifact.manifest())?;
        Ok(PreparedArtifact { artifact, manifest, now: SystemClock.now().as_unix_millis() })
    }

    /// The commits of a deployment that goes well, as the service makes them.
    pub(crate) fn deployment(&mut self) -> Outcome<Vec<PreparedCommit>> {
        let scope = Scope::new(format!("app{}", self.next()).as_str().try_into()?, Environment::Production);
        let (now, ttl) = (SystemClock.now(), Duration::from_mins(1));
        let id = DeploymentId::generate(&self.ids, now);
        let (target, holder) = (BackendName::parse("workers")?, WorkerName::parse("w-0123456789abcdef")?);
        let (position, fence) = (StreamPosition::start(Incarnation::from_u64(1)), Fence::from_u64(1));
        let handle = Handle::new(format!("{}-production", scope.app));
        let digest = Digest::of(b"an artifact");
        let end = DeploymentEnd::Active { target: target.clone(), handle: handle.clone(), fence };
        let steps = [
            (
                vec![DeploymentEvent::Requested {
                    actor: Actor::system("bench"),
                    source: DeploymentSource::Sources(position),
                    env: EnvRevision(position),
                    limits: Limits::default(),
                    targets: vec![target.clone()],
                    owner: None,
                    strategy: None,
                }],
                LeaseChange::None,
            ),
            (
                vec![
                    DeploymentEvent::BuildStarted { position },
                    DeploymentEvent::Built { digest, bytes: 480_000, files: 30 },
                ],
                LeaseChange::Take { holder: holder.clone(), ttl, above: Fence::ZERO },
            ),
            (
                vec![
                    DeploymentEvent::Leased { above: fence, holder },
                    DeploymentEvent::Staging { target: target.clone(), attempt: 1 },
                ],
                LeaseChange::Keep { fence, ttl },
            ),
            (
                vec![
                    DeploymentEvent::Staged { target: target.clone(), staged: Staged { id, handle: handle.clone() } },
                    DeploymentEvent::Activating { target: target.clone(), fence },
                ],
                LeaseChange::Keep { fence, ttl },
            ),
            (
                vec![
                    DeploymentEvent::Activated { target: target.clone(), handle },
                    DeploymentEvent::Routing { target, fence },
                ],
                LeaseChange::Keep { fence, ttl },
            ),
            (vec![DeploymentEvent::Ended { end: end.clone() }], LeaseChange::Release { fence }),
        ];
        let mut seq = 0;
        let mut commits = Vec::new();
        for (events, lease) in steps {
            let commit = Commit::new(id, scope.clone(), u64::try_from(seq)?, events, now).lease(lease);
            let commit = PreparedCommit::of(commit)?;
            seq = commit.new_seq;
            commits.push(commit);
        }
        Ok(commits)
    }
}

/// Something like a program's text, which can be compressed as one.
fn text(seed: u64, bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "const ",
        "state",
        " = useState(",
        "null",
        ");\n",
        "return ",
        "<div className=\"",
        "todo-item",
        "\">",
        "</div>",
        "props.",
        "items",
        ".map(",
        "item => ",
        "onClick={() => ",
        "}\n",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = format!("// {seed}\n");
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(WORDS[usize::try_from(state >> 60).expect("four bits")]);
        if state & 0xf00 == 0 {
            write!(text, "{:x}", state >> 40).expect("a string can be written to");
        }
    }
    text.truncate(bytes);
    text
}
