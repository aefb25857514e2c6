use crate::{
    EntityApi, LocalOptions, LocalPreviewHost, LocalTarget,
    disk::{self, OwnFolder},
    options::{Addresses, Port},
    server::{self, Shared},
};
use overskill_build::preview::PreviewEngine;
use overskill_core::{
    ApiUpstream, AppTokens, Error, ErrorKind, KeyId, LocalKeys, LocalTokens, PublicUrl, Result, RootKey, Secret,
};
use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};

/// The embedded backends of one machine, behind one server on loopback. Cheap to clone.
///
/// One process uses a data folder at a time. It holds:
///
/// | | |
/// |---|---|
/// | `deployments/` | what is deployed, and the versions before |
/// | `previews/` | which previews are open; not their sources |
/// | `entities.db` | apps' data, if no other upstream is set |
/// | `signing.key`, `socket.key`, `root.key` | what tokens are signed with and made of, and what seals secrets; only their owner may read them |
///
/// The server is a future that the caller runs: nothing is answered until [`serve`](Self::serve) is awaited or spawned.
/// Addresses are known, and connections wait, from the start.
#[derive(Clone)]
pub struct LocalBackends(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    api: Option<EntityApi>,
    tokens: LocalTokens,
    root_key: RootKey,
    address: SocketAddr,
    listener: Mutex<Option<TcpListener>>,
    drain: Duration,
    folder: OwnFolder,
}

impl LocalBackends {
    /// Takes the data folder and the port; `engine` compiles previews.
    ///
    /// `Conflict` when another process uses the folder or the port, `Invalid` for options that do not fit together.
    pub async fn start(folder: impl AsRef<Path>, engine: PreviewEngine, options: LocalOptions) -> Result<Self> {
        options.admit()?;
        let folder = folder.as_ref().to_owned();
        let ids = options.ids.clone();
        let (folder, signing, socket_key, root_key) = disk::blocking(move || {
            let folder = OwnFolder::open(&folder)?;
            let fresh = || Ok(LocalKeys::generate(key_id())?.to_pkcs8());
            let signing = disk::kept(&folder.path().join("signing.key"), fresh)?;
            let socket_key = disk::kept_secret(&folder.path().join("socket.key"), &*ids)?;
            let root_key = disk::kept_secret(&folder.path().join("root.key"), &*ids)?;
            Ok((folder, signing, socket_key, RootKey::parse(root_key.expose())?))
        })
        .await?;
        let tokens = LocalTokens::new(keys(&signing, folder.path())?);
        let listener = listen(&options).await?;
        let address = listener.local_addr().map_err(|e| disk::failed("the server's address is not known", e))?;
        let addresses = Addresses::new(&options, address.port());
        let target = LocalTarget::new(options.name.clone(), folder.path().join("deployments"), addresses.clone());
        let previews = LocalPreviewHost::new(
            options.name.clone(),
            engine,
            addresses.clone(),
            folder.path().join("previews"),
            socket_key,
            options.progress.clone(),
            options.clock.clone(),
        )?;
        let api = if options.upstream.is_none() {
            let file = folder.path().join("entities.db");
            Some(EntityApi::open(&file, tokens.validator(), options.clock.clone(), options.ids.clone()).await?)
        } else {
            None
        };
        let embedded = || -> Option<Arc<dyn ApiUpstream>> { Some(Arc::new(api.clone()?)) };
        let upstream = options.upstream.clone().or_else(embedded).expect("either is there");
        let app_tokens: Arc<dyn AppTokens> = match &options.app_tokens {
            Some(tokens) => tokens.clone(),
            None => Arc::new(tokens.clone()),
        };
        let shared = Shared {
            previews,
            target,
            upstream,
            tokens: app_tokens,
            directory: options.directory.clone(),
            clock: options.clock.clone(),
            ids: options.ids.clone(),
            addresses,
            domains: options.hosts.clone(),
            port: address.port(),
            frame_ancestors: format!("frame-ancestors 'self' {}", options.embedders.join(" ")).trim_end().to_owned(),
            max_body_bytes: options.max_body_bytes,
            for_other_devices: !options.bind.is_loopback(),
            closing: watch::channel(false).0,
        };
        let (shared, listener) = (Arc::new(shared), Mutex::new(Some(listener)));
        Ok(Self(Arc::new(Inner { shared, api, tokens, root_key, address, listener, drain: options.drain, folder })))
    }

    /// Where live previews run.
    pub fn previews(&self) -> LocalPreviewHost {
        self.0.shared.previews.clone()
    }

    /// Where deployed apps run.
    pub fn target(&self) -> LocalTarget {
        self.0.shared.target.clone()
    }

    /// Where apps' `/api/*` goes.
    pub fn upstream(&self) -> Arc<dyn ApiUpstream> {
        self.0.shared.upstream.clone()
    }

    /// What makes tokens with this folder's key; the same after a restart.
    pub fn tokens(&self) -> &LocalTokens {
        &self.0.tokens
    }

    /// What seals secrets of this folder: for a [`LocalKeyProvider`](overskill_core::LocalKeyProvider).
    pub fn root_key(&self) -> &RootKey {
        &self.0.root_key
    }

    /// The page that lists the apps.
    pub fn url(&self) -> PublicUrl {
        self.0.shared.addresses.root()
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    /// Answers requests until `shutdown` ends, and then brings them to an end: no new connections, a close frame for every
    /// socket, and at most [`LocalOptions::drain`] for requests that are under way.
    ///
    /// Connections are tasks of the caller's runtime that end with this future. `Conflict` when it was called before.
    pub async fn serve(&self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let listener = self.0.listener.lock().expect("nobody panics with this lock").take();
        let Some(listener) = listener else {
            return Err(
                Error::conflict("the server runs already, or has ended: start it once").at(disk::BACKEND, "serve")
            );
        };
        tracing::info!(address = %self.0.address, "serving previews and apps");
        let Shared { closing, clock, .. } = &*self.0.shared;
        let router = server::router(self.0.shared.clone());
        server::serve(listener, router, closing, shutdown, self.0.drain, &**clock).await;
        if let Some(api) = &self.0.api {
            api.close().await;
        }
        Ok(())
    }
}

impl fmt::Debug for LocalBackends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { address, folder, .. } = &*self.0;
        f.debug_struct("LocalBackends")
            .field("address", address)
            .field("folder", &folder.path())
            .finish_non_exhaustive()
    }
}

fn key_id() -> KeyId {
    KeyId::parse("local").expect("a legal id")
}

fn keys(signing: &Secret, folder: &Path) -> Result<LocalKeys> {
    LocalKeys::from_pkcs8(key_id(), signing).map_err(|e| {
        let file = folder.join("signing.key");
        let message = format!("`{}` must hold a signing key, but does not: restore or delete it", file.display());
        Error::invalid(message).caused_by(e).at(disk::BACKEND, "open")
    })
}

async fn listen(options: &LocalOptions) -> Result<TcpListener> {
    let at = |port| SocketAddr::new(options.bind, port);
    let (first, second) = match options.port {
        Port::Preferred => (LocalOptions::DEFAULT_PORT, Some(0)),
        Port::Exactly(port) => (port, None),
    };
    let refused = match TcpListener::bind(at(first)).await {
        Ok(listener) => return Ok(listener),
        Err(e) => e,
    };
    if let Some(second) = second
        && let Ok(listener) = TcpListener::bind(at(second)).await
    {
        return Ok(listener);
    }
    let kind = match refused.kind() {
        std::io::ErrorKind::AddrInUse => ErrorKind::Conflict,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Invalid,
    };
    let message = format!(
        "port must be free on {}, but {first} is not ({}): choose another, or 0 for any",
        options.bind,
        refused.kind()
    );
    Err(Error::new(kind, message.clone()).public(message).caused_by(refused).at(disk::BACKEND, "listen"))
}
