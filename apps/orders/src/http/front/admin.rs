//! The admin API of the whole: what names a service goes to a process of it, what asks for all is put together.
//!
//! What is done to a process (stopping a service's background work) is done to all that have the role. Topics are the
//! same for everybody, so this process answers for them. Health, readiness and metrics are each process's own.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{Extensions, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use factum_admin::web::Problem;
use serde_json::Value;

use super::{Front, asked, lists, story};
use crate::{
    peers::{Answered, Asked},
    platform::{Platform, Role},
};

/// The admin API's means.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    front: Front,
    platform: Arc<Platform>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To this process.
    Own,
    /// To a process of the role.
    To(Role),
    /// To all processes of the role.
    ToAll(Role),
    /// To one role after another, until one knows what is asked about.
    Whoever,
    /// To all roles: the numbers of their answers are added.
    Sum,
    /// To all roles: their lists are one behind the other.
    Lists,
    /// To all roles: their pages are one behind the other, in the order of the services' names.
    Pages,
    /// To all roles: their pages are one by time, newest first.
    Newest,
    /// To all roles: their events are one story.
    Story,
}

impl Way {
    /// The way of a request with these parts of its path behind `/admin/`, and the service that it names elsewhere.
    fn of(method: &Method, path: &[&str], service: Option<&str>) -> Self {
        let get = method == Method::GET;
        let to = |name: &str| Role::parse(name).map_or(Self::Own, Self::To);
        let unless_named = |way| service.map_or(way, to);
        match *path {
            ["services" | "projections" | "consumers"] if get => unless_named(Self::Lists),
            ["streams" | "parked"] if get => unless_named(Self::Pages),
            ["services", name, "stop" | "start"] => {
                Role::parse(name).map_or(Self::Own, Self::ToAll)
            }
            ["services" | "projections" | "streams", name, ..] => to(name),
            ["events"] => unless_named(Self::Own),
            ["stories", _] => Self::Story,
            ["audit"] => unless_named(Self::Newest),
            ["parked", "redrive"] => unless_named(Self::Sum),
            ["consumers" | "parked", _, ..] => Self::Whoever,
            _ => Self::Own,
        }
    }
}

/// Answers for all processes, or lets this one answer.
pub(super) async fn through(
    State(whole): State<Whole>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(path) = request.uri().path().strip_prefix("/admin/") else {
        return Ok(next.run(request).await);
    };
    let path: Vec<String> = path.split('/').map(str::to_owned).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let extensions = request.extensions().clone();
    let named = parameter(request.uri().query().unwrap_or_default(), "service");
    let asked = asked(request).await?;
    let named = named.or_else(|| Some(asked.json()["service"].as_str()?.to_owned()));
    let way = Way::of(&asked.method, &path, named.as_deref());
    let gathering = Gathering {
        whole: &whole,
        asked: &asked,
        extensions,
        next,
    };
    gathering.answer(way).await
}

/// A parameter of a query, as it is written there: names of services have nothing that would have to be encoded.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut parameters = query.split('&').filter_map(|one| one.split_once('='));
    let found = parameters.find(|(known, _)| *known == name);
    found.map(|(_, value)| value.to_owned())
}

/// A request on its way to several services.
pub(super) struct Gathering<'a> {
    whole: &'a Whole,
    pub(super) asked: &'a Asked,
    extensions: Extensions,
    next: Next,
}

impl Whole {
    /// The admin API of `platform` and of all behind `front`.
    pub(super) fn of(front: Front, platform: Arc<Platform>) -> Self {
        Self { front, platform }
    }
}

impl Gathering<'_> {
    async fn answer(&self, way: Way) -> Result<Response, Problem> {
        match way {
            Way::Own => self.here(self.asked).await,
            Way::To(role) => Ok(self.ask(role, self.asked).await?.into()),
            Way::ToAll(role) => self.all_of(role).await,
            Way::Whoever => self.whoever().await,
            Way::Sum => lists::sum(self).await,
            Way::Lists => lists::lists(self).await,
            Way::Pages => lists::pages(self).await,
            Way::Newest => lists::newest(self).await,
            Way::Story => story::story(self).await,
        }
    }

    /// All roles, in the order of their names.
    pub(super) fn roles() -> Vec<Role> {
        let mut roles = Role::EVERY.to_vec();
        roles.sort_by_key(|role| role.name());
        roles
    }

    /// What this process answers.
    async fn here(&self, asked: &Asked) -> Result<Response, Problem> {
        let mut request = asked.to_request()?;
        *request.extensions_mut() = self.extensions.clone();
        Ok(self.next.clone().run(request).await)
    }

    /// What a process of `role` answers.
    pub(super) async fn ask(&self, role: Role, asked: &Asked) -> Result<Answered, Problem> {
        if self.whole.platform.has(role) {
            return Answered::here(self.here(asked).await?).await;
        }
        self.whole.front.peers.ask(role, asked).await
    }

    async fn all_of(&self, role: Role) -> Result<Response, Problem> {
        if self.whole.platform.has(role) {
            return self.here(self.asked).await;
        }
        let answers = self.whole.front.peers.ask_all(role, self.asked).await?;
        // The first that is not a good one, or any.
        let worst = answers
            .into_iter()
            .max_by_key(|answered| answered.status.as_u16());
        match worst {
            Some(answered) => Ok(answered.into()),
            None => Err(Problem::unavailable(
                format!("no process is known to have role `{role}`"),
                1,
            )),
        }
    }

    async fn whoever(&self) -> Result<Response, Problem> {
        // Whose process is silent may be the one that knows: that is said only if nobody else does.
        let (mut unknown, mut silent) = (None, None);
        for role in Self::roles() {
            match self.ask(role, self.asked).await {
                Ok(answered) if answered.status == StatusCode::NOT_FOUND => {
                    unknown = Some(answered);
                }
                Ok(answered) => return Ok(answered.into()),
                Err(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE.as_u16() => {
                    silent = Some(problem);
                }
                Err(problem) => return Err(problem),
            }
        }
        match (silent, unknown) {
            (Some(silent), _) => Err(silent),
            (None, Some(answered)) => Ok(answered.into()),
            (None, None) => Ok(StatusCode::NOT_FOUND.into_response()),
        }
    }

    /// What each role says to the request that `of` makes for it; the first refusal instead.
    pub(super) async fn each(
        &self,
        mut of: impl FnMut(Role) -> Option<Asked>,
    ) -> Result<Result<Vec<(Role, Value)>, Answered>, Problem> {
        let (mut told, mut without) = (Vec::new(), None);
        for role in Self::roles() {
            let Some(asked) = of(role) else { continue };
            let answered = self.ask(role, &asked).await?;
            if lacks_group(&answered) {
                without = Some(answered);
                continue;
            }
            if !answered.status.is_success() {
                return Ok(Err(answered));
            }
            told.push((role, answered.json()));
        }
        Ok(match without {
            Some(refused) if told.is_empty() => Err(refused),
            _ => Ok(told),
        })
    }
}

/// Whether a service refuses since the group that was named is none of its own: it may be another's.
pub(super) fn lacks_group(answered: &Answered) -> bool {
    let body = answered.json();
    let errors = body["errors"].as_array();
    answered.status == StatusCode::UNPROCESSABLE_ENTITY
        && errors.is_some_and(|errors| {
            !errors.is_empty() && errors.iter().all(|error| error["field"] == "group")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_service_goes_to_it_and_what_asks_for_all_is_put_together() {
        let (get, post) = (Method::GET, Method::POST);
        let (payment, stock) = (Role::Payment, Role::Stock);
        for (method, path, service, way) in [
            (&get, "services", None, Way::Lists),
            (&post, "services/payment/stop", None, Way::ToAll(payment)),
            (
                &post,
                "services/payment/relay/rewind",
                None,
                Way::To(payment),
            ),
            (&post, "services/unheard/stop", None, Way::Own),
            (&get, "projections", Some("stock"), Way::To(stock)),
            (
                &post,
                "projections/stock/shelves/rebuild",
                None,
                Way::To(stock),
            ),
            (&get, "consumers", None, Way::Lists),
            (
                &post,
                "consumers/stock-service/payments/0/accept",
                None,
                Way::Whoever,
            ),
            (&get, "streams", None, Way::Pages),
            (&get, "streams/stock/shelf/tea", None, Way::To(stock)),
            (&get, "events", Some("payment"), Way::To(payment)),
            (&get, "stories/1", None, Way::Story),
            (&get, "parked", None, Way::Pages),
            (&get, "parked", Some("nobody"), Way::Own),
            (&post, "parked/redrive", None, Way::Sum),
            (&post, "parked/redrive", Some("stock"), Way::To(stock)),
            (&post, "parked/a:b:0:1/discard", None, Way::Whoever),
            (&get, "audit", None, Way::Newest),
            (&get, "topics/orders/messages", None, Way::Own),
            (&get, "openapi.json", None, Way::Own),
        ] {
            let parts: Vec<_> = path.split('/').collect();
            assert_eq!(Way::of(method, &parts, service), way, "{method} {path}");
        }
    }
}
