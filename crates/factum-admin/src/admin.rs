//! The admin API as a whole: what its handlers stand on, and how they find a service.

use std::{fmt, path::PathBuf, sync::Arc};

use axum::{Router, extract::FromRequestParts, http::request::Parts};
use factum::{By, Env, Error, Running, RunningService, ServiceName};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    api::{self, page::Room},
    web::{Actor, Api, Problem},
};

/// The admin API of a running app. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    running: Arc<Running>,
    env: Env,
    backups: Option<Backups>,
    page_bytes: usize,
}

/// How many bytes of events and messages a page has at most, unless told otherwise: what a browser still shows, and
/// what a few clients at once may ask for without taking the memory of the process.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Writes a service's store into a new file, and says where.
type Backups = Arc<dyn Fn(ServiceName) -> BoxFuture<'static, Result<PathBuf, Error>> + Send + Sync>;

impl Admin {
    /// The API of `running`, with the clock and the randomness of `env`.
    pub fn new(running: Arc<Running>, env: Env) -> Self {
        Self {
            running,
            env,
            backups: None,
            page_bytes: PAGE_BYTES,
        }
    }

    /// With pages of about so many bytes of events and messages at most, however few that are; by default 4 MiB. A
    /// page has one of them even so.
    #[must_use]
    pub fn with_page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = bytes;
        self
    }

    /// With backups: `make` writes what a service's store holds into a new file, and says where. Choose the place
    /// yourself: whoever asks over HTTP should not.
    #[must_use]
    pub fn with_backups<F, B>(mut self, make: F) -> Self
    where
        F: Fn(ServiceName) -> B + Send + Sync + 'static,
        B: Future<Output = Result<PathBuf, Error>> + Send + 'static,
    {
        self.backups = Some(Arc::new(move |service| make(service).boxed()));
        self
    }

    /// All its routes, as one table.
    pub fn api() -> Api<Self> {
        api::table()
    }

    /// The paths that answer without a token, in as few words as possible: what load balancers ask.
    pub fn open_paths() -> Vec<&'static str> {
        vec!["/health", "/ready"]
    }

    /// Its router, with its OpenAPI document at `/admin/openapi.json`. Guard it: see [`guarded`](crate::web::guarded).
    pub fn router(self) -> Router {
        Self::api().router("/admin/openapi.json").with_state(self)
    }

    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    pub(crate) fn backups(&self) -> Option<&Backups> {
        self.backups.as_ref()
    }

    /// The room of a page of `limit` events or messages.
    pub(crate) fn room(&self, limit: usize) -> Room {
        Room::of(limit, self.page_bytes)
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    fn known(&self) -> String {
        self.running
            .services()
            .map(|service| service.name().as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The service that a path names.
    pub(crate) fn service(&self, name: &str) -> Result<&RunningService, Problem> {
        self.running.service(name).ok_or_else(|| {
            Problem::not_found(format!(
                "there is no service `{}` (known: {})",
                shown(name),
                self.known()
            ))
        })
    }

    /// The service that a query names, or all.
    pub(crate) fn services(&self, name: Option<&str>) -> Result<Vec<&RunningService>, Problem> {
        let Some(name) = name else {
            return Ok(self.running.services().collect());
        };
        let service = self.running.service(name).ok_or_else(|| {
            Problem::invalid("the service is not known").field(
                "service",
                format!(
                    "there is no service `{}` (known: {})",
                    shown(name),
                    self.known()
                ),
            )
        })?;
        Ok(vec![service])
    }

    /// Writes down what was done that is no commit of a service by itself.
    pub(crate) async fn record(
        &self,
        service: &RunningService,
        action: &str,
        subject: String,
        by: By,
    ) -> Result<(), Problem> {
        let recorded = service.operator().record(action, subject, &by).await;
        recorded.map_err(|error| Problem::unavailable(format!("nothing was done: {error:#}"), 1))
    }

    /// Writes down what was done to something that belongs to no service: the first one keeps the record.
    pub(crate) async fn record_beside(
        &self,
        action: &str,
        subject: String,
        by: By,
    ) -> Result<(), Problem> {
        match self.running.services().next() {
            Some(service) => self.record(service, action, subject, by).await,
            None => Err(Problem::unavailable(
                "nothing was done: no service runs that could keep the record of it",
                1,
            )),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// `text`, as far as it is shown in a problem.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .take(100)
        .flat_map(char::escape_debug)
        .collect()
}

/// Who sent the request: as [`guarded`](crate::web::guarded) found out. Where an application guards the router in
/// another way, it has decided that they may, and the record says `local`.
pub(crate) struct Sender(pub(crate) Actor);

impl Sender {
    pub(crate) fn by(&self, reason: Option<String>) -> By {
        By::new(self.0.name(), reason.unwrap_or_default())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Sender {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(
            parts
                .extensions
                .get::<Actor>()
                .cloned()
                .unwrap_or_else(Actor::local),
        ))
    }
}
