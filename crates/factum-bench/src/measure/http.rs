//! A client of HTTP/1.1 over one connection: as little as possible, since it shares the machine with what it measures.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::failure::Failure;

/// The largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A connection that is kept.
pub(super) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let failed = |error| Failure::while_(format!("connecting to {address}"), error);
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self {
            stream,
            address,
            buffer: Vec::new(),
        })
    }

    /// Posts a body; the answer must have this status.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: &Value,
        status: u16,
    ) -> Result<Value, Failure> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let answered = self.exchange(request.as_bytes()).await;
        let (actual, answer) =
            answered.map_err(|error| Failure::while_(format!("POST {path}"), error))?;
        if actual == status {
            Ok(answer)
        } else {
            Err(Failure::new(format!("POST {path}: {actual} {answer}")))
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<(u16, Value), Failure> {
        let broken = |what: &str| Failure::new(format!("the answer {what}"));
        self.stream
            .write_all(request)
            .await
            .map_err(|error| Failure::while_("sending", error))?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(|error| Failure::while_("receiving", error))? == 0 {
                return Err(broken("was cut off"));
            }
            let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                .ok_or_else(|| broken("has no length"))?;
            if length > ANSWER_BYTES_MAX {
                return Err(broken("is too long"));
            }
            let Some(body) = self.buffer.get(end + 4..end + 4 + length) else {
                continue;
            };
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
            let status = status.ok_or_else(|| broken("has no status"))?;
            return Ok((status, serde_json::from_slice(body).unwrap_or_default()));
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
