//! A page's socket.

use super::{PATIENCE, Workers};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

/// What a page was given.
#[derive(Clone, Debug)]
pub struct Page {
    pub text: String,
    pub config: Value,
}

impl Page {
    pub async fn load(workers: &Workers, label: &str) -> Self {
        let answer = workers.page(label, "/").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text().to_owned();
        let config = text.split("id=\"overskill-preview\"").nth(1).expect("a page of the preview");
        let config = config.split_once('>').unwrap().1.split_once("</script>").unwrap().0;
        Self { config: serde_json::from_str(config).unwrap(), text }
    }

    pub fn token(&self) -> &str {
        self.config["token"].as_str().unwrap()
    }

    pub fn seq(&self) -> u64 {
        self.config["position"]["seq"].as_u64().unwrap()
    }

    /// The query of its socket, as its client writes it.
    pub fn query(&self) -> String {
        let position = &self.config["position"];
        format!(
            "token={}&incarnation={}&seq={}&epoch={}",
            self.token(),
            position["incarnation"].as_str().unwrap(),
            position["seq"],
            self.config["epoch"]
        )
    }

    pub async fn connect(&self, workers: &Workers, label: &str) -> Socket {
        connect(workers, label, &self.query(), None).await.expect("the page's own socket")
    }
}

pub struct Socket(WebSocketStream<TcpStream>);

/// Connects, and takes the greeting; or the status of the refusal.
pub async fn connect(workers: &Workers, label: &str, query: &str, origin: Option<&str>) -> Result<Socket, u16> {
    let stream = TcpStream::connect(("127.0.0.1", workers.port)).await.unwrap();
    let host = workers.host(label);
    let mut request = format!("ws://{host}/@overskill/socket?{query}").into_client_request().unwrap();
    let origin = origin.map_or_else(|| format!("http://{host}"), str::to_owned);
    request.headers_mut().insert("origin", origin.parse().unwrap());
    match client_async(request, stream).await {
        Ok((socket, _)) => {
            let mut socket = Socket(socket);
            assert_eq!(socket.next().await["type"], "connected");
            Ok(socket)
        }
        Err(Error::Http(refused)) => Err(refused.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

impl Socket {
    /// The next message.
    pub async fn next(&mut self) -> Value {
        self.next_or_end().await.expect("a message")
    }

    /// The next message, or `None` at the end.
    pub async fn next_or_end(&mut self) -> Option<Value> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message in time");
            match next {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::Text(text.into())).await.unwrap();
    }

    /// What came before the answer to a ping: whoever is pinged has sent all of that.
    pub async fn so_far(&mut self) -> Vec<Value> {
        self.say("{\"type\":\"ping\"}").await;
        let mut all = Vec::new();
        loop {
            match self.next().await {
                pong if pong["type"] == "pong" => return all,
                other => all.push(other),
            }
        }
    }

    pub async fn leave(mut self) {
        let _ = self.0.close(None).await;
        while self.next_or_end().await.is_some() {}
    }
}
