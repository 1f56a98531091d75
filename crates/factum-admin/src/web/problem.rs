//! Problems: how every refusal and failure is answered (RFC 9457, `application/problem+json`).
//!
//! What a failure says (paths, statements, names of parts) is for those who mend it. They find it in the log, under an
//! id; whoever asked is told the id, and an API for operators tells them the rest, too.

use std::sync::LazyLock;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use factum::{Env, Error, ErrorClass, system_env};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The longest detail, and the longest name of a field, in characters. They repeat parts of a request,
/// which may be as long as they like.
const TEXT_CHARS_MAX: usize = 1_000;
/// How many fields are named at most: an order of a hundred lines with everything wrong.
const ERRORS_MAX: usize = 500;

/// The ids of problems.
static IDS: LazyLock<Env> = LazyLock::new(system_env);

/// How many bytes the fields take at most: with names as long as they may be, so many would be megabytes.
const ERRORS_BYTES_MAX: usize = 64 * 1024;

/// What is put before a problem's code to make its type.
const TYPE_PREFIX: &str = "urn:factum:problem:";

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// The field, such as `items[0].qty`, a parameter's or header's name, or `body` for the body as a whole.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub detail: String,
}

/// A refusal or failure, as a client reads it.
///
/// ```
/// use factum_admin::web::Problem;
/// let problem = Problem::invalid("the order can't be taken").field("items[0].qty", "must be at least 1");
/// assert_eq!(problem.status(), 422);
/// assert_eq!(problem.code(), "invalid-request");
/// ```
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether detail and errors say what only those may know who mend it.
    inner: bool,
}

/// A problem's body with all that it says, in the extensions of an answer whose own body leaves that out.
#[derive(Clone, Debug)]
struct Whole(Bytes);

/// A problem as it is written: the members that RFC 9457 defines, and `errors`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct ProblemBody {
    /// What kind of problem it is: `urn:factum:problem:` and a code that never changes.
    #[serde(rename = "type")]
    kind: String,
    /// The kind, in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time, and what to do next.
    detail: String,
    /// What the log has this failure under: a URN of a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// The fields that are wrong, when the request is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Problem {
    /// A problem of a kind that the functions below don't have. `code` is for programs, `title` is the same in words.
    ///
    /// The detail of one whose status is 500 or more is for the log, unless it is made [`public`](Self::public).
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            inner: status.is_server_error(),
        }
    }

    /// 400: what came is no request that can be read.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unreadable-request",
            "The request can't be read",
            detail,
        )
    }

    /// 422: the request can be read, and a field of it is wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-request",
            "The request is not valid",
            detail,
        )
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is no such thing",
            detail,
        )
    }

    /// 409: it contradicts how things stand.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "conflict",
            "It contradicts how things stand",
            detail,
        )
    }

    /// 503: it can't be done now; trying again in `seconds` may help.
    pub fn unavailable(detail: impl Into<String>, seconds: u32) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "It can't be done now",
            detail,
        )
        .header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// 500: a mistake of ours, or a part that waits for a person.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something is broken here",
            detail,
        )
    }

    /// This problem, with what is wrong with a field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            field: field.into(),
            detail: detail.into(),
        });
        self
    }

    /// This problem, with what is wrong with these fields.
    #[must_use]
    pub fn fields(mut self, errors: impl IntoIterator<Item = FieldError>) -> Self {
        self.errors.extend(errors);
        self
    }

    /// This problem, answered with a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// This problem, whose detail is for everybody though it is a failure.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.inner = false;
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The code that its type ends with.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// What a port says goes to the log and to operators as it is: they have to mend it.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = format!("{error:#}");
        let problem = match error.class() {
            ErrorClass::Conflict | ErrorClass::Fenced => Self::conflict(detail),
            ErrorClass::Unknown => Self::unavailable(
                format!("it may have been done or not: {detail}; look before you try again"),
                1,
            ),
            ErrorClass::Transient => Self::unavailable(detail, 1),
            ErrorClass::Poison => Self::invalid(detail),
            ErrorClass::Fatal => Self::internal(detail),
        };
        Self {
            inner: true,
            ..problem
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let failed = self.status.is_server_error() || self.inner;
        let instance = failed.then(|| format!("urn:uuid:{}", IDS.uuid()));
        if let Some(id) = &instance {
            self.log(id);
        }
        let whole = self.body(instance.clone(), self.detail.clone(), &self.errors);
        let mut response = Response::new(Body::empty());
        *response.body_mut() = if self.inner {
            let told = self.body(instance, self.said_to_all(), &[]);
            response.extensions_mut().insert(Whole(whole));
            Body::from(told)
        } else {
            Body::from(whole)
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.extend(self.headers);
        response
    }
}

impl Problem {
    fn log(&self, id: &str) {
        let (status, code) = (self.status.as_u16(), self.code);
        let wrong: Vec<_> = self
            .errors
            .iter()
            .map(|one| format!("; {}: {}", one.field, one.detail))
            .collect();
        let what = format!("{}{}", self.detail, wrong.concat());
        if status == 500 {
            tracing::error!(
                http.status = status,
                problem.id = id,
                "answering a request with {code} ({id}): {what}"
            );
        } else {
            tracing::warn!(
                http.status = status,
                problem.id = id,
                "answering a request with {code} ({id}): {what}"
            );
        }
    }

    /// What those are told who asked, where the rest is for those who mend it.
    fn said_to_all(&self) -> String {
        match self.status.as_u16() {
            409 => "something else was written meanwhile: look how things stand, and try again",
            422 => "it can't be done with what is there",
            503 => {
                "it can't be done now: try again, and if that lasts, say which `instance` this was"
            }
            _ => "something is broken here, and not your request: say which `instance` this was",
        }
        .into()
    }

    fn body(&self, instance: Option<String>, mut detail: String, errors: &[FieldError]) -> Bytes {
        cut(&mut detail);
        let mut errors: Vec<_> = errors.iter().take(ERRORS_MAX).cloned().collect();
        for FieldError { field, detail } in &mut errors {
            cut(field);
            cut(detail);
        }
        let mut room = ERRORS_BYTES_MAX;
        errors.retain(|error| {
            let bytes = serde_json::to_vec(error).map_or(0, |error| error.len());
            room = room.saturating_sub(bytes);
            room > 0
        });
        let body = ProblemBody {
            kind: format!("{TYPE_PREFIX}{}", self.code),
            title: self.title.into(),
            status: self.status.as_u16(),
            detail,
            instance,
            errors,
        };
        let body = serde_json::to_vec(&body).expect("a problem is texts and a number");
        body.into()
    }
}

/// The answer with all that a problem in it says: for operators.
pub(super) fn whole(mut answer: Response) -> Response {
    if let Some(Whole(body)) = answer.extensions_mut().remove() {
        *answer.body_mut() = Body::from(body);
    }
    answer
}

/// Leaves [`TEXT_CHARS_MAX`] characters of `text`, and says so.
fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(at);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(response: Response) -> ProblemBody {
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        serde_json::from_slice(&body.unwrap()).unwrap()
    }

    /// Customers once read the path of the data directory, and the statement that failed on it.
    #[tokio::test]
    async fn what_failed_is_told_to_operators_and_everybody_else_gets_the_id_that_the_log_has_it_under()
     {
        let inner = "SELECT * FROM streams in `/srv/orders/factum.db`";
        let failures = [
            Problem::internal(inner),
            Problem::unavailable(inner, 1),
            Problem::internal("it is broken").field("order/store", inner),
            Error::fatal(inner).into(),
            Error::transient(inner).into(),
            Error::conflict(inner).into(),
            Error::poison(inner).into(),
        ];
        for failure in failures {
            let answer = read(failure.clone().into_response()).await;
            let told = serde_json::to_string(&answer).unwrap();
            assert!(!told.contains("SELECT") && !told.contains("/srv"), "{told}");
            let id = answer.instance.unwrap();
            assert!(id.starts_with("urn:uuid:"), "{id}");
            let answer = read(whole(failure.into_response())).await;
            assert!(serde_json::to_string(&answer).unwrap().contains(inner));
            assert!(answer.instance.is_some_and(|other| other != id));
        }
        let public = Problem::unavailable("not yet", 1).public();
        assert_eq!(read(public.into_response()).await.detail, "not yet");
        let refusal = read(Problem::invalid("no").into_response()).await;
        assert_eq!((refusal.detail.as_str(), refusal.instance), ("no", None));
    }

    /// A name of two megabytes was answered with twelve: each of its characters, escaped.
    #[tokio::test]
    async fn what_a_request_says_is_repeated_in_few_words() {
        let long = "\u{1}주".repeat(1_000_000);
        let problem = Problem::invalid(&long)
            .fields((0..1_000).map(|_| FieldError {
                field: "items[0]".into(),
                detail: "x".into(),
            }))
            .field("behind the last that is named", "x");
        let body = axum::body::to_bytes(problem.into_response().into_body(), usize::MAX).await;
        let body: ProblemBody = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(body.detail.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(body.detail.ends_with('…'));
        assert_eq!(body.errors.len(), ERRORS_MAX);

        let many = (0..1_000).map(|_| FieldError {
            field: long.clone(),
            detail: "x".into(),
        });
        let body = read(Problem::invalid("long").fields(many).into_response()).await;
        let bytes = serde_json::to_vec(&body).unwrap().len();
        assert!((ERRORS_BYTES_MAX / 2..2 * ERRORS_BYTES_MAX).contains(&bytes));

        let problem = Problem::invalid("short").field(&long, &long);
        let body = axum::body::to_bytes(problem.into_response().into_body(), usize::MAX).await;
        assert!(body.unwrap().len() < 20 * TEXT_CHARS_MAX);
    }
}
