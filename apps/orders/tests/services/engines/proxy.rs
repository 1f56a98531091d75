//! A proxy before a server, which can be cut: then nothing comes through, and nobody can connect.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// A proxy. It ends with the test's runtime.
pub(crate) struct Proxy {
    /// The address of the server by way of the proxy.
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    changed: Notify,
}

impl Proxy {
    /// One to the server at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let (before, rest) = url.split_once('@').unwrap();
        let (server, behind) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        tokio::spawn(run(listener, server.to_owned(), state.clone()));
        Self {
            url: format!("{before}@127.0.0.1:{port}/{behind}"),
            state,
        }
    }

    /// Ends all connections, and lets nobody connect.
    pub(crate) fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
        self.state.changed.notify_waiters();
    }

    /// Lets everybody through again.
    pub(crate) fn mend(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
    }
}

async fn run(listener: TcpListener, server: String, state: Arc<State>) {
    while let Ok((mut client, _)) = listener.accept().await {
        if state.cut.load(Ordering::SeqCst) {
            continue;
        }
        let (server, state) = (server.clone(), state.clone());
        tokio::spawn(async move {
            let cut = state.changed.notified();
            let Ok(mut server) = TcpStream::connect(&server).await else {
                return;
            };
            tokio::select! {
                () = cut => {}
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            }
        });
    }
}
