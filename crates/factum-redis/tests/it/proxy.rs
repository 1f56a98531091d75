//! A proxy between a process and the server, which can stop passing on what one of them says.

use std::{io, sync::Arc};

use tokio::{
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    Everything,
    /// The server hears nothing.
    Answers,
    /// The server hears, and nobody hears what it answers.
    Questions,
}

/// A proxy.
pub(crate) struct Proxy {
    /// The address of the server by way of the proxy.
    pub(crate) url: String,
    passes: Arc<watch::Sender<Passes>>,
}

impl Proxy {
    /// One to the server at a port.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let own = listener.local_addr().expect("it is bound").port();
        let passes = Arc::new(watch::Sender::new(Passes::Everything));
        let shared = passes.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(
                    from_client,
                    to_server,
                    shared.subscribe(),
                    Passes::Questions,
                ));
                tokio::spawn(pass(
                    from_server,
                    to_client,
                    shared.subscribe(),
                    Passes::Answers,
                ));
            }
        });
        Self {
            url: format!("redis://127.0.0.1:{own}/0"),
            passes,
        }
    }

    /// Lets only this pass from now on.
    pub(crate) fn only(&self, passes: Passes) {
        self.passes.send_replace(passes);
    }
}

/// Passes on what comes one way, until an end.
async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mut passes: watch::Receiver<Passes>,
    way: Passes,
) -> io::Result<()> {
    let mut buffer = vec![0; 16_384];
    loop {
        from.readable().await?;
        let mut rest = match from.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let open = |passes: &Passes| *passes == Passes::Everything || *passes == way;
        let passes = passes.wait_for(open).await.map(drop);
        passes.map_err(io::Error::other)?;
        while !rest.is_empty() {
            to.writable().await?;
            match to.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
