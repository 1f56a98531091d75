//! What stays from one input to the next: an executor, and the order platform served on a data directory.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use factum::{RetryPolicy, system_env};
use factum_admin::{Admin, web};
use futures_util::{StreamExt as _, future::LocalBoxFuture};
use hyper::{Request, service::Service as _};
use hyper_util::service::TowerToHyperService;
use orders::{
    http,
    platform::{Platform, PlatformOptions},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

/// How long one input may take: a hundred times what the slowest needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An answer: status, media type, body.
pub(crate) type Answer = (u16, String, Bytes);

type Ask = Box<dyn Fn(Request<String>) -> LocalBoxFuture<'static, Answer>>;

/// A platform, served.
pub(crate) struct Served {
    pub(crate) runtime: Rc<Runtime>,
    pub(crate) address: std::net::SocketAddr,
    /// Gives a request to the router, behind its guard, without a connection.
    pub(crate) ask: Ask,
    _data: TempDir,
}

/// An executor on this thread alone.
pub(crate) fn runtime() -> Runtime {
    let made = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    made.expect("an executor can be made")
}

/// The platform of this thread.
pub(crate) fn served() -> Rc<Served> {
    thread_local! {
        static SERVED: RefCell<Option<Rc<Served>>> = const { RefCell::new(None) };
    }
    SERVED.with_borrow_mut(|served| served.get_or_insert_with(|| Rc::new(serve())).clone())
}

fn serve() -> Served {
    let runtime = Rc::new(runtime());
    let data = TempDir::new().expect("there is room for a temporary directory");
    let options = PlatformOptions::new(data.path()).retry(RetryPolicy::never());
    let (address, ask) = runtime.block_on(async {
        let platform = Platform::open(options).await.expect("it opens");
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let access = web::Access::new(address, Vec::new(), [], Admin::open_paths());
        let router = web::guarded(http::router(Arc::new(platform), system_env()), access);
        tokio::spawn(web::serve(
            listener,
            router.clone(),
            CancellationToken::new(),
        ));
        let service = TowerToHyperService::new(router);
        let ask: Ask = Box::new(move |request| {
            let answered = service.call(request);
            Box::pin(async move {
                let Ok(response) = answered.await;
                let (parts, body) = response.into_parts();
                let media = parts.headers.get("content-type");
                let media = media.and_then(|media| media.to_str().ok());
                let mut bytes = Vec::new();
                let mut chunks = body.into_data_stream();
                while let Some(chunk) = chunks.next().await {
                    bytes.extend_from_slice(&chunk.expect("an answer comes whole"));
                }
                let media = media.unwrap_or_default().to_owned();
                (parts.status.as_u16(), media, bytes.into())
            })
        });
        (address, ask)
    });
    Served {
        runtime,
        address,
        ask,
        _data: data,
    }
}
