//! The socket of one viewer.

use super::connections::Closing;
use crate::previews::{Cut, Hot, Room, Viewer};
use axum::{
    body::Body,
    extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code},
    http::Response,
};
use overskill_core::{Clock, StreamPosition};
use std::{ops::ControlFlow, sync::Arc, time::Duration};

/// Largest message of a viewer in bytes. They say little: pings, and modules that refuse an update.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// How long a viewer has to take a close frame.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

const CONNECTED: Utf8Bytes = Utf8Bytes::from_static("{\"type\":\"connected\"}");
const PING: &str = "{\"type\":\"ping\"}";
const PONG: Utf8Bytes = Utf8Bytes::from_static("{\"type\":\"pong\"}");

/// Where a viewer stands, and the epoch of its page.
type Standing = (Option<StreamPosition>, Option<u64>);

/// Connects a viewer who was let in.
pub(super) fn accept(
    upgrade: WebSocketUpgrade,
    room: Arc<Room>,
    from: Standing,
    closing: Closing,
    clock: Arc<dyn Clock>,
) -> Response<Body> {
    // Most sockets are idle: the library's buffers of 128 KiB each would be the larger part of their cost.
    let upgrade = upgrade
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES);
    upgrade.on_upgrade(move |socket| serve(socket, room, from, closing, clock))
}

async fn serve(
    mut socket: WebSocket,
    room: Arc<Room>,
    (from, epoch): Standing,
    mut closing: Closing,
    clock: Arc<dyn Clock>,
) {
    let reason = {
        let Some((mut viewer, missed)) = room.join(from, epoch) else {
            close(&mut socket, Reason::Cut(Cut::Closed), &*clock).await;
            return;
        };
        match talk(&mut socket, &mut viewer, missed, from, &mut closing).await {
            ControlFlow::Break(reason) => reason,
            ControlFlow::Continue(never) => match never {},
        }
    };
    close(&mut socket, reason, &*clock).await;
}

/// Why a socket ends.
#[derive(Clone, Copy, Debug)]
enum Reason {
    /// The viewer left, or its connection broke.
    Left,
    Cut(Cut),
    Shutdown,
}

enum Never {}

async fn talk(
    socket: &mut WebSocket,
    viewer: &mut Viewer,
    missed: Vec<Hot>,
    from: Option<StreamPosition>,
    closing: &mut Closing,
) -> ControlFlow<Reason, Never> {
    send(socket, viewer, closing, CONNECTED).await?;
    // What happens while a viewer joins comes twice: as missed, and through the queue.
    let told = missed.iter().rev().find_map(|message| message.position).or(from);
    for message in missed {
        send(socket, viewer, closing, message.text).await?;
    }
    loop {
        let event = tokio::select! {
            message = viewer.next() => Event::Message(message),
            said = socket.recv() => Event::Said(said),
            () = closing.begun() => return ControlFlow::Break(Reason::Shutdown),
        };
        match event {
            Event::Message(Err(why)) => return ControlFlow::Break(Reason::Cut(why)),
            Event::Message(Ok(message)) => {
                let known = told.zip(message.position).is_some_and(|(told, at)| at.behind(told).is_some());
                if !known {
                    send(socket, viewer, closing, message.text).await?;
                }
            }
            Event::Said(Some(Ok(Message::Text(text)))) if text.as_str() == PING => {
                send(socket, viewer, closing, PONG).await?;
            }
            Event::Said(Some(Ok(Message::Text(text)))) => viewer.room().hear(&text),
            Event::Said(Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_)))) => {}
            Event::Said(Some(Ok(Message::Close(_)) | Err(_)) | None) => return ControlFlow::Break(Reason::Left),
        }
    }
}

/// What a socket waits for.
enum Event {
    Message(Result<Hot, Cut>),
    Said(Option<Result<Message, axum::Error>>),
}

/// Sends, unless the viewer is let go while it does not take anything.
async fn send(
    socket: &mut WebSocket,
    viewer: &Viewer,
    closing: &mut Closing,
    text: Utf8Bytes,
) -> ControlFlow<Reason, ()> {
    tokio::select! {
        biased;
        sent = socket.send(Message::Text(text)) => match sent {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(Reason::Left),
        },
        why = viewer.cut() => ControlFlow::Break(Reason::Cut(why)),
        () = closing.begun() => ControlFlow::Break(Reason::Shutdown),
    }
}

/// Says why, to whoever still listens. The page connects again by itself.
async fn close(socket: &mut WebSocket, reason: Reason, clock: &dyn Clock) {
    let (code, reason) = match reason {
        Reason::Left => return,
        Reason::Cut(Cut::Slow) => (close_code::AGAIN, "too slow: connect again, or load the page anew"),
        Reason::Cut(Cut::Closed) => (close_code::NORMAL, "the preview was closed"),
        Reason::Shutdown => (close_code::AWAY, "the server shuts down"),
    };
    let frame = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
    let goodbye = async {
        if socket.send(frame).await.is_ok() {
            // Until the other side has said so too, its last bytes may still be on their way.
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    tokio::select! {
        () = goodbye => {}
        () = clock.sleep(CLOSE_WITHIN) => {}
    }
}
