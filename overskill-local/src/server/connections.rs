//! Connections: taken as long as the server runs, and brought to an end when it shuts down.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use overskill_core::Clock;
use std::{future::Future, pin::pin, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// How long a client may take for the head of a request, and a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_mins(1);

/// How long to wait before the next connection is taken, when there was no room for one.
const BREATH: Duration = Duration::from_millis(50);

/// Holds up the end of a shutdown until it is dropped, and says when one begins.
#[derive(Debug)]
pub(super) struct Closing(watch::Receiver<bool>);

impl Closing {
    pub(super) fn of(closing: &watch::Sender<bool>) -> Self {
        Self(closing.subscribe())
    }

    /// Ends when a shutdown began.
    pub(super) async fn begun(&mut self) {
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// Tells sockets that it is over: they are tasks of their own, and would outlive a future that is dropped.
struct Over<'a>(&'a watch::Sender<bool>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Serves until `shutdown` ends; then takes no more connections, ends those that are idle, sends sockets a close frame, and
/// waits at most `drain` for requests that are under way.
///
/// Connections are tasks of the caller's runtime that end with this future.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    closing: &watch::Sender<bool>,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
    clock: &dyn Clock,
) {
    let mut shutdown = pin!(shutdown);
    let over = Over(closing);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, router.clone(), Closing::of(closing)))),
                Err(e) => {
                    // Of the process (too many open files) or of the client (gone already): both pass.
                    tracing::warn!(error = %e, "a connection could not be taken");
                    clock.sleep(BREATH).await;
                }
            },
        }
    }
    drop(listener);
    drop(over);
    let drained = async {
        while connections.join_next().await.is_some() {}
        // Sockets left their connections, and hold a receiver each.
        closing.closed().await;
    };
    tokio::select! {
        () = drained => {}
        () = clock.sleep(drain) => tracing::warn!(?drain, "requests that were still under way were cut off"),
    }
}

async fn connection(stream: TcpStream, router: Router, mut closing: Closing) {
    let _ = stream.set_nodelay(true); // it is only slower without
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection broke off");
    }
}
