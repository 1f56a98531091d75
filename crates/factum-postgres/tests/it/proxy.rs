//! A proxy between a process and the server, which can stop passing on what the process sends: to the server the process
//! is then stopped, wherever it was.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// How many bytes may pass while nobody counts.
const UNLIMITED: u64 = u64::MAX / 2;

struct State {
    sent: AtomicU64,
    allowed: AtomicU64,
    stopped: AtomicBool,
    changed: Notify,
}

/// A proxy.
pub(crate) struct Proxy {
    /// The address of the server by way of the proxy.
    pub(crate) url: String,
    state: Arc<State>,
}

impl Proxy {
    /// One to the server at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let (before, rest) = url.split_once('@').expect("the address has a user");
        let (server, behind) = rest.split_once('/').expect("the address has a database");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(State {
            sent: AtomicU64::new(0),
            allowed: AtomicU64::new(UNLIMITED),
            stopped: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let (server, shared) = (server.to_string(), state.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                tokio::spawn(async move {
                    drop(tokio::io::copy(&mut from_server, &mut to_client).await);
                });
                let state = shared.clone();
                tokio::spawn(async move {
                    let mut to_server = to_server;
                    let mut buffer = vec![0; 16_384];
                    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                        let mut rest = &buffer[..count];
                        while !rest.is_empty() {
                            let allowed = state.take(rest.len()).await;
                            if to_server.write_all(&rest[..allowed]).await.is_err() {
                                return;
                            }
                            rest = &rest[allowed..];
                        }
                    }
                });
            }
        });
        Self {
            url: format!("{before}@127.0.0.1:{port}/{behind}"),
            state,
        }
    }

    /// How many bytes were passed on to the server.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Passes on so many bytes more, and no others until `go_on`.
    pub(crate) fn stop_after(&self, bytes: u64) {
        self.state.allowed.store(bytes, Ordering::SeqCst);
    }

    /// Whether bytes wait that are not passed on.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state.stopped.load(Ordering::SeqCst)
    }

    /// Passes on all that waits, and all that comes.
    pub(crate) fn go_on(&self) {
        self.state.allowed.store(UNLIMITED, Ordering::SeqCst);
        self.state.stopped.store(false, Ordering::SeqCst);
        self.state.changed.notify_waiters();
    }
}

impl State {
    /// How many of `count` bytes may be passed on: one at least, as soon as that is so.
    async fn take(&self, count: usize) -> usize {
        loop {
            let changed = self.changed.notified();
            let count = count as u64;
            let allowed =
                self.allowed
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |allowed| {
                        (allowed > 0).then(|| allowed.saturating_sub(count))
                    });
            if let Ok(allowed) = allowed {
                let taken = allowed.min(count);
                self.sent.fetch_add(taken, Ordering::SeqCst);
                return usize::try_from(taken).expect("it is no more than was asked for");
            }
            self.stopped.store(true, Ordering::SeqCst);
            changed.await;
        }
    }
}
