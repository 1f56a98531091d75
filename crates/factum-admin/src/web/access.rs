//! Access: who may speak to an HTTP API, decided for every request before anything else is.
//!
//! A server on loopback without a token is open to every program of this machine, and so to every web page that
//! its user visits. Two attacks follow, and both are refused here: a page whose own name is made to point to
//! this address (its requests carry that name in `Host`), and a page that sends a form or a script's request
//! across sites (its requests carry a foreign `Origin`). A server that others can reach needs a token.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use sha2::{Digest, Sha256};

use super::{Problem, route::with_fallbacks};

/// The name of a token that was given without one.
const TOKEN_NAME: &str = "operator";
/// The actor of requests to a server without tokens.
const LOCAL: &str = "local";
/// The longest `Host`: a DNS name has 253 bytes at most, and a port six.
const HOST_BYTES_MAX: usize = 260;

/// A secret that lets a client in, and the name that the audit record knows it by.
///
/// Written `name=secret`, or `secret` alone. Only a digest is kept, so it can't be printed by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    name: Arc<str>,
    digest: [u8; 32],
}

/// A text that is not a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The name is not plain.
    #[error("a token's name is 1 to 60 letters, digits, `.`, `_` or `-`, and not `{LOCAL}`")]
    Name,
    /// The secret can't be sent in a header.
    #[error(
        "a token's secret is 8 to 500 visible ASCII characters without `=` but at its end: try `openssl rand -hex 20`"
    )]
    Secret,
}

impl Token {
    /// The name that the audit record knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        // A secret in base64 may end with `=`, so only what follows tells a name from a secret.
        let (name, secret) = match text.split_once('=') {
            Some((name, secret)) if !secret.trim_matches('=').is_empty() => (name, secret),
            _ => (TOKEN_NAME, text),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=60).contains(&name.len()) || !name.bytes().all(plain) || name == LOCAL {
            return Err(InvalidToken::Name);
        }
        let visible = |byte: u8| byte.is_ascii_graphic();
        if !(8..=500).contains(&secret.len())
            || !secret.bytes().all(visible)
            || secret.trim_end_matches('=').contains('=')
        {
            return Err(InvalidToken::Secret);
        }
        Ok(Self {
            name: name.into(),
            digest: Sha256::digest(secret).into(),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An address that a server may not listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "refusing to listen on {0} without a token: whoever reaches this address could read and change everything; \
     give a token, or listen on 127.0.0.1"
)]
pub struct RefusedListen(SocketAddr);

/// Whether a server may listen on `address`: on loopback always, elsewhere only with a token.
///
/// ```
/// use factum_admin::web::allow_listen;
/// assert!(allow_listen("127.0.0.1:7400".parse().unwrap(), &[]).is_ok());
/// assert!(allow_listen("0.0.0.0:7400".parse().unwrap(), &[]).is_err());
/// assert!(allow_listen("0.0.0.0:7400".parse().unwrap(), &["ada=0123456789abcdef".parse().unwrap()]).is_ok());
/// ```
///
/// # Errors
///
/// [`RefusedListen`], in words for the person who started the server.
pub fn allow_listen(address: SocketAddr, tokens: &[Token]) -> Result<(), RefusedListen> {
    if address.ip().to_canonical().is_loopback() || !tokens.is_empty() {
        return Ok(());
    }
    Err(RefusedListen(address))
}

/// Who sent a request. In the request's extensions behind [`guarded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `None` for a request that needed no token and had none.
    name: Option<Arc<str>>,
}

impl Actor {
    /// The actor of a server without tokens.
    pub fn local() -> Self {
        Self {
            name: Some(LOCAL.into()),
        }
    }

    /// What the audit record calls them: a token's name, or `local` without tokens.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("anonymous")
    }

    /// Whether they have shown a token, or need none: others are told as little as possible.
    pub fn is_known(&self) -> bool {
        self.name.is_some()
    }
}

/// Who may speak to a server, and by which of its names. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    listen: SocketAddr,
    tokens: Vec<Token>,
    names: Vec<String>,
    open: Vec<&'static str>,
    refused: Refused,
}

/// How many requests were refused for want of a token that is known. In the extensions of those that were not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused(Arc<AtomicU64>);

impl Refused {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Access {
    /// Access to a server that listens on `listen`, which [`allow_listen`] has allowed.
    ///
    /// It answers to its address, to `localhost`, and to `names`. With `tokens`, every request needs one, but for
    /// those to the paths in `open`.
    pub fn new(
        listen: SocketAddr,
        tokens: Vec<Token>,
        names: impl IntoIterator<Item = String>,
        open: Vec<&'static str>,
    ) -> Self {
        let names = names
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        Self {
            inner: Arc::new(Inner {
                listen,
                tokens,
                names,
                open,
                refused: Refused::default(),
            }),
        }
    }

    /// Who sent the request, or why it is refused.
    ///
    /// # Errors
    ///
    /// 421 for a foreign name, 403 for a request from a foreign page, 401 without a token that is needed.
    pub fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Actor, Problem> {
        let host = self.host(headers)?;
        if !method.is_safe() {
            same_site(headers, host)?;
        }
        self.actor(path, headers)
    }

    fn host<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Problem> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host
                .to_str()
                .ok()
                .filter(|host| host.len() <= HOST_BYTES_MAX),
            _ => None,
        };
        let host =
            host.ok_or_else(|| Problem::unreadable("the request needs one `Host` header"))?;
        if self.answers_to(host) {
            return Ok(host);
        }
        Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "This server doesn't answer to that name",
            format!(
                "`{}` is none of this server's names: use its address, or start it with that name",
                host.escape_debug()
            ),
        ))
    }

    fn answers_to(&self, host: &str) -> bool {
        let Some(name) = name_of(host) else {
            return false;
        };
        if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            let (ip, listen) = (ip.to_canonical(), self.inner.listen.ip().to_canonical());
            // Whoever listens everywhere has more addresses than it knows. The attack that is kept off here
            // needs a name: no page can be served from an address that is ours.
            return ip == listen
                || listen.is_unspecified()
                || (ip.is_loopback() && listen.is_loopback());
        }
        let name = name.to_ascii_lowercase();
        name == "localhost" || self.inner.names.contains(&name)
    }

    fn actor(&self, path: &str, headers: &HeaderMap) -> Result<Actor, Problem> {
        let Inner { tokens, open, .. } = &*self.inner;
        if tokens.is_empty() {
            return Ok(Actor::local());
        }
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let secret = match (given.next(), given.next()) {
            (Some(value), None) => bearer(value),
            _ => None,
        };
        if let Some(secret) = secret {
            let digest: [u8; 32] = Sha256::digest(secret).into();
            // All tokens are compared whole, so that the time taken says nothing about any of them.
            let known = tokens.iter().fold(None, |known, token| {
                if same(&token.digest, &digest) {
                    Some(token)
                } else {
                    known
                }
            });
            if let Some(token) = known {
                return Ok(Actor {
                    name: Some(token.name.clone()),
                });
            }
        } else if open.contains(&path) {
            return Ok(Actor { name: None });
        }
        self.inner.refused.0.fetch_add(1, Ordering::Relaxed);
        let detail = match secret {
            Some(_) => "the token is not known",
            None => "send a token: `Authorization: Bearer <secret>`",
        };
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "A token is needed",
            detail,
        )
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
    }
}

/// The name or address in `Host`, without the port: clients come through tunnels with other ports.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')? + 2;
            (
                &host[..end],
                host[end..]
                    .strip_prefix(':')
                    .or(host[end..].is_empty().then_some("0"))?,
            )
        }
        None => host.split_once(':').unwrap_or((host, "0")),
    };
    (!name.is_empty() && port.parse::<u16>().is_ok()).then_some(name)
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, secret) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| secret.trim_ascii())
}

/// Whether two digests are the same, in a time that doesn't depend on where they differ.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |difference, (left, right)| difference | (left ^ right));
    std::hint::black_box(difference) == 0
}

/// Refuses what a page of another site sends. Programs send neither header, and browsers always one of them.
fn same_site(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let refused = |what: String| {
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "The request comes from another site",
            format!("{what}, and only this server's own pages may change anything"),
        ))
    };
    for site in headers.get_all("sec-fetch-site") {
        if !matches!(site.as_bytes(), b"same-origin" | b"none") {
            return refused(format!(
                "`Sec-Fetch-Site` is `{}`",
                site.as_bytes().escape_ascii()
            ));
        }
    }
    for origin in headers.get_all(header::ORIGIN) {
        let own = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        if !own.is_some_and(|(scheme, authority)| {
            matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host)
        }) {
            return refused(format!(
                "`Origin` is `{}`",
                origin.as_bytes().escape_ascii()
            ));
        }
    }
    Ok(())
}

/// `router` behind [`Access`]: what is refused comes to no handler, what is let in knows its [`Actor`], a panic
/// becomes a problem, and browsers may not guess at, frame or keep what is answered. Paths and methods that the
/// router doesn't have are problems, too; strangers don't learn which those are.
///
/// ```
/// use axum::{Router, routing::get};
/// use factum_admin::web::{Access, guarded};
/// let access = Access::new("127.0.0.1:7400".parse().unwrap(), Vec::new(), [], vec![]);
/// let router = guarded(Router::new().route("/", get(|| async { "hello" })), access);
/// ```
pub fn guarded(router: Router, access: Access) -> Router {
    with_fallbacks(router).layer(from_fn_with_state(access, guard))
}

async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let mut response = match access.check(request.method(), request.uri().path(), request.headers())
    {
        Err(problem) => problem.into_response(),
        Ok(actor) => {
            let what = format!("{} {}", request.method(), request.uri().path());
            request.extensions_mut().insert(actor);
            request
                .extensions_mut()
                .insert(access.inner.refused.clone());
            let answered = std::panic::AssertUnwindSafe(next.run(request))
                .catch_unwind()
                .await;
            answered.unwrap_or_else(|_| {
                let detail = format!("the handler of {what} panicked: the message is above");
                Problem::internal(detail).into_response()
            })
        }
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
