//! A proxy before a server. It can be cut: then nothing comes through, and nobody can connect. It can stall one way or both:
//! then all connections stay, and what is said on them waits.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch::{Receiver, Sender},
};

/// Which way something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By clients to the server.
    Asked,
    /// By the server to its clients.
    Answered,
}

/// A proxy. It ends with the test's runtime.
pub(crate) struct Proxy {
    /// The address of the server by way of the proxy.
    pub(crate) url: String,
    line: Arc<Sender<Line>>,
}

/// What comes through.
#[derive(Clone, Debug, Default)]
struct Line {
    is_cut: bool,
    /// How often it was cut: a connection ends with the first time that it lives to see.
    cuts: u64,
    stalled: Vec<Way>,
}

impl Proxy {
    /// One to the server at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let (before, rest) = url.split_once('@').unwrap();
        let (server, behind) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(Sender::new(Line::default()));
        tokio::spawn(run(listener, server.to_owned(), line.clone()));
        Self {
            url: format!("{before}@127.0.0.1:{port}/{behind}"),
            line,
        }
    }

    /// Ends all connections, and lets nobody connect.
    pub(crate) fn cut(&self) {
        self.line.send_modify(|line| {
            line.is_cut = true;
            line.cuts += 1;
        });
    }

    /// Keeps back what is said these ways.
    pub(crate) fn stall(&self, ways: &[Way]) {
        self.line.send_modify(|line| line.stalled = ways.to_vec());
    }

    /// Lets everybody through again, and all that was kept back.
    pub(crate) fn mend(&self) {
        self.line.send_modify(|line| {
            line.is_cut = false;
            line.stalled.clear();
        });
    }
}

async fn run(listener: TcpListener, server: String, line: Arc<Sender<Line>>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut seen = line.subscribe();
        let now = seen.borrow_and_update().clone();
        if now.is_cut {
            continue;
        }
        let (server, line) = (server.clone(), line.clone());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(&server).await else {
                return;
            };
            let (asked, answers) = client.into_split();
            let (answered, asks) = server.into_split();
            let pass = async {
                tokio::join!(
                    pass(asked, asks, line.subscribe(), Way::Asked),
                    pass(answered, answers, line.subscribe(), Way::Answered),
                )
            };
            tokio::select! {
                _ = pass => {}
                _ = seen.wait_for(|line| line.cuts > now.cuts) => {}
            }
        });
    }
}

/// Passes on what is said one way, until there is an end.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: Receiver<Line>,
    way: Way,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        // An end is news, too.
        let flows = line.wait_for(|line| !line.stalled.contains(&way)).await;
        drop(flows.map_err(io::Error::other)?);
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
