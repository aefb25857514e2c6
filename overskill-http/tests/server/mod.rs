//! A tiny server on loopback that answers with bytes of a script.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What the server does with a connection, once it has read a request's head and body.
#[derive(Clone)]
pub(crate) enum Act {
    /// Sends these bytes and closes.
    Send(Vec<u8>),
    /// Sends these bytes and then nothing more.
    Hang(Vec<u8>),
    /// Sends this much of a body without end.
    Flood(usize),
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(address: &str, act: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let (requests, act) = (Arc::clone(&server.requests), Arc::new(act));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (requests, act) = (Arc::clone(&requests), Arc::clone(&act));
                tokio::spawn(async move {
                    let _ = serve(connection, &requests, &*act).await;
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests that came, as text.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut connection: TcpStream,
    requests: &Mutex<Vec<String>>,
    act: &(impl Fn(&str) -> Act + ?Sized),
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let text = loop {
        let mut part = [0; 4096];
        let read = connection.read(&mut part).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                break text;
            }
        }
    };
    requests.lock().unwrap().push(text.clone());
    match act(&text) {
        Act::Send(bytes) => connection.write_all(&bytes).await?,
        Act::Hang(bytes) => {
            connection.write_all(&bytes).await?;
            std::future::pending::<()>().await;
        }
        Act::Flood(bytes) => {
            connection.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
            for _ in 0..bytes / 4096 {
                connection.write_all(&[b'x'; 4096]).await?;
            }
        }
    }
    connection.shutdown().await
}

/// A response with these header lines.
pub(crate) fn answer(status: &str, headers: &[&str], body: &str) -> Act {
    let mut text = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    Act::Send(format!("{text}\r\n{body}").into_bytes())
}
