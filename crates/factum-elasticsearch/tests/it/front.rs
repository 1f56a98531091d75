//! What stands before the cluster in a test: it sees each request, and passes it on, answers it itself, or cuts it off. It
//! speaks TLS where it is given a certificate, as the cluster of the tests can't.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, body::Incoming, header::AUTHORIZATION, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

use crate::support::exchange;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Bytes,
}

/// What becomes of a request.
pub(crate) enum Verdict {
    /// It is passed on.
    Pass,
    /// It is passed on with another body, and answered with this.
    Change(String, String),
    /// It is answered.
    Answer(u16, String),
    /// The connection is closed.
    Cut,
    /// It is never answered.
    Hold,
}

type Rule = dyn Fn(&Asked) -> Verdict + Send + Sync;

/// A front, until it is dropped with its runtime.
pub(crate) struct Front {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    cluster: String,
    asked: Mutex<Vec<Asked>>,
    rule: Mutex<Arc<Rule>>,
}

impl Front {
    /// One before the cluster at `url`, which passes on all.
    pub(crate) async fn of(url: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            cluster: url.into(),
            asked: Mutex::default(),
            rule: Mutex::new(Arc::new(|_| Verdict::Pass)),
        });
        let to_serve = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (to_serve.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, shared).await,
                            // Whoever doesn't trust us goes away.
                            Err(error) => drop(error),
                        },
                    }
                });
            }
        });
        Self { port, shared }
    }

    /// Its address, without a scheme.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// From now on this becomes of requests.
    pub(crate) fn rule(&self, rule: impl Fn(&Asked) -> Verdict + Send + Sync + 'static) {
        *self.shared.rule.lock().expect("no test panicked here") = Arc::new(rule);
    }

    /// The requests that came whose path has `part`.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        let asked = self.shared.asked.lock().expect("no test panicked here");
        let with_part = asked.iter().filter(|asked| asked.path.contains(part));
        with_part.cloned().collect()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let cut = Arc::new(Notify::new());
    let service = service_fn(|request| {
        let (shared, cut) = (shared.clone(), cut.clone());
        async move { Ok::<_, Infallible>(answer(request, &shared, &cut).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => drop(ended),
        () = cut.notified() => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    cut: &Notify,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let header = |name: hyper::header::HeaderName| {
        let value = head.headers.get(name)?;
        value.to_str().ok().map(String::from)
    };
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        authorization: header(AUTHORIZATION),
        body: body.collect().await.expect("a request is whole").to_bytes(),
    };
    let content = header(hyper::header::CONTENT_TYPE);
    let content = content.unwrap_or_else(|| "application/json".into());
    let rule = shared.rule.lock().expect("no test panicked here").clone();
    let verdict = rule(&asked);
    let pass = async |body: &[u8]| {
        exchange(&shared.cluster, &asked.method, &asked.path, &content, body).await
    };
    let (status, answer) = match verdict {
        Verdict::Pass => pass(&asked.body).await,
        Verdict::Change(body, answer) => {
            pass(body.as_bytes()).await;
            (200, answer.into_bytes())
        }
        Verdict::Answer(status, body) => (status, body.into_bytes()),
        Verdict::Cut => {
            cut.notify_one();
            std::future::pending().await
        }
        Verdict::Hold => std::future::pending().await,
    };
    let all = &mut shared.asked.lock().expect("no test panicked here");
    all.push(asked);
    Response::builder()
        .status(status)
        .body(Full::new(answer.into()))
        .expect("it is an answer")
}
