//! Rules: what the description of a route says that a request has to be, kept.
//!
//! All of a request is looked at before its handler is: path, query, headers and body, and all that is wrong is
//! answered at once. Handlers are left to what only they can know.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, RawPathParams, Request, State},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::value::RawValue;

use super::{FieldError, Problem, Shape, problem, request, shape::ERRORS_MAX};

/// What a request for one route has to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) params: Vec<Param>,
    pub(super) body: Option<TakenBody>,
    /// Whether those who ask are operators, who are told what failed.
    pub(super) operators: bool,
}

/// A parameter of a path, a query or the headers.
#[derive(Clone, Debug)]
pub(super) struct Param {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) shape: Shape,
    pub(super) required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

/// A body that a route takes.
#[derive(Clone, Debug)]
pub(super) struct TakenBody {
    pub(super) shape: Shape,
    pub(super) required: bool,
}

/// Lets a request through that is as the rules say, and refuses others.
pub(super) async fn keep(
    State(rules): State<Arc<Rules>>,
    request: Request,
    next: Next,
) -> Response {
    let answer = match rules.check(request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if rules.operators {
        problem::whole(answer)
    } else {
        answer
    }
}

impl Rules {
    /// The request as it came, or all that is wrong with it.
    async fn check(&self, request: Request) -> Result<Request, Problem> {
        let (mut parts, body) = request.into_parts();
        let mut wrong = Vec::new();
        for (place, given) in [
            (Place::Path, path(&mut parts).await?),
            (
                Place::Query,
                request::pairs(parts.uri.query().unwrap_or_default())?,
            ),
            (Place::Header, headers(&parts)),
        ] {
            self.check_params(place, &given, &mut wrong);
        }
        let body = match &self.body {
            Some(taken) if taken.required || !request::is_empty(&body) => {
                let bytes = request::read_json(&parts.headers, body).await?;
                taken.shape.check(request::as_json(&bytes)?, "", &mut wrong);
                Body::from(bytes)
            }
            _ => body,
        };
        if wrong.is_empty() {
            return Ok(Request::from_parts(parts, body));
        }
        Err(Problem::invalid("the request can't be taken as it is: see `errors`").fields(wrong))
    }

    fn check_params(&self, place: Place, given: &[(String, String)], wrong: &mut Vec<FieldError>) {
        let known = || self.params.iter().filter(|param| param.place == place);
        for Param {
            name,
            shape,
            required,
            ..
        } in known()
        {
            let mut named = given.iter().filter(|(given, _)| is(place, given, name));
            let error = |detail: String| FieldError {
                field: name.clone(),
                detail,
            };
            match (named.next(), named.next()) {
                (None, _) if *required => wrong.push(error("is missing".into())),
                (None, _) => {}
                (Some((_, text)), None) => match as_value(shape, text) {
                    Some(value) => shape.check(&value, name, wrong),
                    None => wrong.push(error(shape.wanted())),
                },
                (Some(_), Some(_)) => wrong.push(error("is given twice".into())),
            }
        }
        // A misspelt parameter would be one that was left out. Headers are for others, too, and what takes no
        // parameters has none that could be misspelt.
        if place == Place::Query && known().next().is_some() {
            let names: Vec<_> = known().map(|param| param.name.as_str()).collect();
            let unknown = given
                .iter()
                .filter(|(name, _)| !names.contains(&name.as_str()));
            for (name, _) in unknown.take(ERRORS_MAX) {
                wrong.push(FieldError {
                    field: name.clone(),
                    detail: format!("is not known here (known: `{}`)", names.join("`, `")),
                });
            }
        }
    }
}

fn is(place: Place, given: &str, name: &str) -> bool {
    given == name || (place == Place::Header && given.eq_ignore_ascii_case(name))
}

/// A parameter's text as the JSON value that it stands for, if it stands for one.
fn as_value(shape: &Shape, text: &str) -> Option<Box<RawValue>> {
    let json = if shape.takes_texts() {
        serde_json::to_string(text).ok()?
    } else if matches!(text, "true" | "false") {
        text.to_owned()
    } else {
        text.parse::<i128>().ok()?.to_string()
    };
    RawValue::from_string(json).ok()
}

async fn path(parts: &mut Parts) -> Result<Vec<(String, String)>, Problem> {
    let given = RawPathParams::from_request_parts(parts, &()).await;
    let given = given.map_err(|_| Problem::unreadable("the path is not UTF-8, percent-encoded"))?;
    Ok(given
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// The headers as texts; what is none shows as that, and fits nothing.
fn headers(parts: &Parts) -> Vec<(String, String)> {
    let text =
        |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}
