//! As much of Postgres's protocol as `CREATE DATABASE` needs, so that tests need neither `psql` nor a client library.

use overskill_core::{Error, ErrorKind, Result};
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// Runs statements as `postgres`, who needs no password, and throws their rows away.
pub(super) fn execute(socket: &Path, database: &str, sql: &str) -> Result<()> {
    talk(socket, database, sql).map_err(|e| {
        Error::new(ErrorKind::Unavailable, format!("Postgres for tests: {e}")).with("database", database)
    })?
}

fn talk(socket: &Path, database: &str, sql: &str) -> io::Result<Result<()>> {
    let mut server = UnixStream::connect(socket)?;
    server.set_read_timeout(Some(Duration::from_mins(1)))?;
    let mut hello = 196_608_u32.to_be_bytes().to_vec(); // protocol 3.0
    for word in ["user", "postgres", "database", database, ""] {
        hello.extend_from_slice(word.as_bytes());
        hello.push(0);
    }
    send(&mut server, None, &hello)?;
    if let Err(refused) = until_ready(&mut server)? {
        return Ok(Err(refused));
    }
    send(&mut server, Some(b'Q'), &[sql.as_bytes(), b"\0"].concat())?;
    let answer = until_ready(&mut server)?;
    send(&mut server, Some(b'X'), b"")?;
    Ok(answer)
}

fn send(server: &mut UnixStream, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(body);
    server.write_all(&message)
}

/// Reads up to `ReadyForQuery`; the first error on the way is the answer.
fn until_ready(server: &mut UnixStream) -> io::Result<Result<()>> {
    let mut answer = Ok(());
    loop {
        let mut head = [0; 5];
        if let Err(e) = server.read_exact(&mut head) {
            // A refused connection is closed after its error, without a `ReadyForQuery`.
            return if answer.is_err() { Ok(answer) } else { Err(e) };
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?.saturating_sub(4)];
        server.read_exact(&mut body)?;
        match head[0] {
            b'Z' => return Ok(answer),
            b'E' if answer.is_ok() => answer = Err(Error::new(ErrorKind::Unavailable, message_of(&body))),
            _ => {}
        }
    }
}

/// The field `M` of an error: each is a letter and a text that ends with a zero byte.
fn message_of(body: &[u8]) -> String {
    let message = body.split(|b| *b == 0).find_map(|field| field.strip_prefix(b"M"));
    format!("Postgres for tests: {}", String::from_utf8_lossy(message.unwrap_or(b"an error without a message")))
}
