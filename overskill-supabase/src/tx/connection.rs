//! One connection to the server.

use super::fault::{BACKEND, failed};
use overskill_core::{Effect, Error, ErrorKind, Result, Secret};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::{
    fmt, io,
    pin::Pin,
    str::FromStr as _,
    sync::Arc,
    task::{self, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::AbortHandle,
};
use tokio_postgres::{
    CancelToken, Client, Config,
    config::{Host, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where a database is and how to get in. The URL is a secret; `Debug` shows neither it nor the certificates.
#[derive(Clone)]
pub struct Server {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Server {
    /// `postgres://role:password@host:port/database?sslmode=require`. Supabase's transaction pooler (port 6543) will do.
    ///
    /// Without `sslmode` it is `require`, and `disable` for sockets and loopback. With `require`, the server's certificate
    /// and its name are always checked: against the public roots, or those of [`trusting`](Self::trusting). `prefer` is
    /// refused.
    pub fn parse(url: &Secret) -> Result<Self> {
        let refuse = |why: &str| {
            Error::invalid(format!("database URL must be postgres://role:password@host/database, but {why}"))
        };
        let mut config = Config::from_str(url.expose()).map_err(|_| refuse("it cannot be read"))?;
        if config.get_user().is_none() || config.get_dbname().is_none() {
            return Err(refuse("it names no role or no database"));
        }
        if config.get_application_name().is_none() {
            config.application_name("overskill");
        }
        let is_near = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        };
        if !url.expose().contains("sslmode=") {
            let near = config.get_hosts().iter().all(is_near);
            config.ssl_mode(if near { SslMode::Disable } else { SslMode::Require });
        } else if config.get_ssl_mode() == SslMode::Prefer {
            return Err(refuse(
                "its sslmode is `prefer`, by which whoever stands between may read along: say `require`",
            ));
        }
        let public = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Ok(Self { config, tls: tls(public)? })
    }

    /// Trusts these certificates alone, given as PEM: those that Supabase shows under "SSL Configuration".
    pub fn trusting(mut self, pem: &[u8]) -> Result<Self> {
        let refuse = || Error::invalid("certificates must be PEM, with at least one CERTIFICATE");
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| refuse())?).map_err(|_| refuse())?;
        }
        if roots.is_empty() {
            return Err(refuse());
        }
        self.tls = tls(roots)?;
        Ok(self)
    }

    /// The same server and database for another role; what a pooler wants behind a dot (`role.project`) stays.
    pub fn role(mut self, role: &str, password: &Secret) -> Self {
        let user = self.config.get_user().and_then(|user| user.split_once('.'));
        let user = user.map_or_else(|| role.to_owned(), |(_, project)| format!("{role}.{project}"));
        self.config.user(user).password(password.expose());
        self
    }

    /// The role that logs in, without what a pooler wants behind a dot (`role.project`).
    pub(crate) fn role_name(&self) -> &str {
        let user = self.config.get_user().expect("`parse` wants one");
        user.split('.').next().unwrap_or(user)
    }

    /// Whether it is reached without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Disable
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let (client, driver) = if self.is_plain() {
            let (client, connection) = self.config.connect(tokio_postgres::NoTls).await.map_err(failed("connect"))?;
            (client, tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (client, connection) = self.config.connect(self.tls.clone()).await.map_err(failed("connect"))?;
            (client, tokio::spawn(async move { drop(connection.await) }))
        };
        Ok(Connection { client, server: self.clone(), driver: driver.abort_handle() })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("role", &self.role_name()).finish_non_exhaustive()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Closes only after the other side did. `PgBouncer` 1.18 ends altogether when a client that asks it to cancel is gone
/// before it was done.
struct Patient(Box<dyn Stream>);

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let mut rest = [0; 64];
        loop {
            let mut rest = ReadBuf::new(&mut rest);
            match ready!(Pin::new(&mut self.0).poll_read(context, &mut rest)) {
                Ok(()) if !rest.filled().is_empty() => {}
                _ => return Pin::new(&mut self.0).poll_shutdown(context), // it is closed, one way or another
            }
        }
    }
}

fn tls(roots: rustls::RootCertStore) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::unexpected("TLS cannot be set up", e).effect_as(Effect::None).at(BACKEND, "connect"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) client: Client,
    server: Server,
    driver: AbortHandle,
}

/// At once, whatever runs: that is how the server notices that nobody waits for it any more.
impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller { token: self.client.cancel_token(), server: self.server.clone() }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

/// Stops what the server does for one connection. Cheap to clone; may be used while a call runs, and after.
#[derive(Clone)]
pub struct Canceller {
    token: CancelToken,
    server: Server,
}

impl Canceller {
    /// Asks the server to stop. The call that runs ends with `Timeout`, if the request comes in time. Goes on when the
    /// future is dropped.
    pub async fn cancel(&self) -> Result<()> {
        let this = self.clone();
        tokio::spawn(async move { this.ask().await }).await.map_err(|e| Error::unexpected("the task ended", e))?
    }

    async fn ask(&self) -> Result<()> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
            let message = "the server could not be asked to stop a statement";
            Error::new(ErrorKind::Unavailable, message).effect_as(Effect::None).caused_by(e).at(BACKEND, "cancel")
        };
        let config = &self.server.config;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let (stream, name): (Box<dyn Stream>, _) = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => {
                let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|e| failed(e.into()))?;
                (Box::new(stream), host.as_str())
            }
            #[cfg(unix)]
            Some(Host::Unix(folder)) => {
                let socket = folder.join(format!(".s.PGSQL.{port}"));
                let stream = tokio::net::UnixStream::connect(socket).await.map_err(|e| failed(e.into()))?;
                (Box::new(stream), "")
            }
            _ => return Err(failed("the URL names no host".into())),
        };
        let stream = Patient(stream);
        let asked = if self.server.is_plain() {
            self.token.cancel_query_raw(stream, tokio_postgres::NoTls).await
        } else {
            let tls = MakeTlsConnect::<Patient>::make_tls_connect(&mut self.server.tls.clone(), name);
            self.token.cancel_query_raw(stream, tls.map_err(|e| failed(e.into()))?).await
        };
        asked.map_err(|e| failed(e.into()))
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}
