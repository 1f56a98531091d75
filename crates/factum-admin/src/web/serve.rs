//! Serving: a router on a listener, with bounds on connections and time, until it is told to stop.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::patience::Patient;

/// How many connections are served at a time; more wait to be accepted. One takes about 20 KiB when idle,
/// [`HEAD_BYTES_MAX`] at most, and a body of at most 2 MiB while it is read. Where the process may open few files, it
/// is fewer: see [`connections_max`].
pub const CONNECTIONS_MAX: usize = 512;
/// How many files are left to the rest of the process: stores, topics and books need about thirty when all is open.
const FILES_RESERVED: usize = 64;
/// How many connections are served even so: better to fail sometimes than not to serve.
const CONNECTIONS_MIN: usize = 8;
/// How much of a connection is read ahead, and so about the largest head of a request that is taken.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long the head of a request may take to arrive, and how long a connection may be idle.
pub const HEADERS_READ_MAX: Duration = Duration::from_secs(15);
/// How long a client may take to read on in what it is answered.
pub const ANSWER_STALL_MAX: Duration = Duration::from_secs(30);
/// How long requests that are under way at the end may take to be answered.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long to wait after a failure to accept: it lasts (no more files), or it passed with the connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `stop` is cancelled, then answers what is under way and returns.
///
/// HTTP/1.1 only: this is made for loopback and for proxies.
///
/// # Errors
///
/// Never at present: what goes wrong with one connection ends that connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let tracker = TaskTracker::new();
    let room = Arc::new(Semaphore::new(connections_max()));
    let mut stopped = pin!(stop.cancelled());
    loop {
        let accepted = async {
            let room = room
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (listener.accept().await, room)
        };
        let (accepted, room) = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small and wanted at once; a socket that can't do so is still served.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!("failed to set no-delay on a connection: {error}");
                }
                let (router, stop) = (router.clone(), stop.clone());
                tracker.spawn(async move {
                    let stream = Patient::new(stream, ANSWER_STALL_MAX);
                    connection(TokioIo::new(stream), router, stop).await;
                    drop(room);
                });
            }
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(DRAIN_MAX, tracker.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            "gave up {} connections that were not done in time",
            tracker.len()
        );
    }
    Ok(())
}

/// How many connections are served at a time: [`CONNECTIONS_MAX`], or as many as the process's limit of open files
/// leaves beside what it needs for itself. Without that, clients that do nothing would take the files that stores have
/// to open.
pub fn connections_max() -> usize {
    files_max().map_or(CONNECTIONS_MAX, |files| {
        files
            .saturating_sub(FILES_RESERVED)
            .clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
    })
}

/// How many files the process may open; `None` when there is no limit, or none is known.
#[cfg(unix)]
fn files_max() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    usize::try_from(limit.current?).ok()
}

#[cfg(not(unix))]
fn files_max() -> Option<usize> {
    None
}

async fn connection(
    io: TokioIo<Patient<tokio::net::TcpStream>>,
    router: Router,
    stop: CancellationToken,
) {
    let service = tower_service(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_READ_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}

fn tower_service(
    router: Router,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future: Send,
> {
    let service = TowerToHyperService::new(router);
    hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let request: Request = request.map(axum::body::Body::new);
        hyper::service::Service::call(&service, request)
    })
}
