//! The API on loopback.

use super::{Inner, Lost};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use overskill_core::{Error, ErrorKind, Result};
use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

pub(super) type AnyBody = BoxBody<Bytes, io::Error>;

/// Serves until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(address: SocketAddr, inner: Arc<Inner>) -> Result<Self> {
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Unavailable, "the emulator could not listen on loopback")
                .with("address", address)
                .caused_by(e)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                // One that broke is no reason to stop.
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let inner = inner.clone();
                connections.spawn(serve(stream, move |request| api(inner.clone(), request)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection; an error of the answer ends it.
pub(super) async fn serve<S, F, Answer>(stream: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> Answer + Send + 'static,
    Answer: Future<Output = io::Result<Response<AnyBody>>> + Send + 'static,
{
    // A client that goes away is no error here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

pub(super) fn whole(body: Bytes) -> AnyBody {
    Full::new(body).map_err(|never| match never {}).boxed()
}

pub(super) async fn read(request: Request<Incoming>) -> io::Result<Request<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Request::from_parts(head, body))
}

async fn api(inner: Arc<Inner>, request: Request<Incoming>) -> io::Result<Response<AnyBody>> {
    match inner.call(read(request).await?).await {
        Ok(answer) => Ok(answer.map(whole)),
        Err(Lost::NoAnswer) => Err(io::Error::other("a fault ended the connection")),
        Err(Lost::CutBody(part)) => Ok(part.map(|body| {
            // What came before has to leave before the end comes.
            let end = stream::once(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(io::Error::other("a fault cut the body"))
            });
            BodyExt::boxed(StreamBody::new(StreamExt::chain(stream::iter([Ok(Frame::data(body))]), end)))
        })),
    }
}
