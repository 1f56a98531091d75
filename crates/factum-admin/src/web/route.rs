//! Routes: one table that is the router, its description and the check of its requests at once, so that none of them
//! can know more than the others.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    http::{Method, StatusCode},
    middleware::from_fn_with_state,
    routing::{MethodFilter, MethodRouter, on},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::{
    Problem, Shape, openapi,
    rules::{self, Param, Place, Rules, TakenBody},
};

/// How a schema is made, once the document that it stands in is known.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A parameter, as it is described.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) required: bool,
    pub(super) text: String,
    pub(super) schema: Value,
}

/// What a route may answer, besides refusals.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: &'static str,
    pub(super) media: &'static str,
    pub(super) schema: Option<SchemaOf>,
    pub(super) headers: Vec<Header>,
}

/// A header of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) always: bool,
}

/// A method on a path: what it is for, what it takes, what it answers, and the handler that does it.
#[derive(Debug)]
#[must_use]
pub struct Route<S> {
    pub(super) method: Method,
    pub(crate) path: &'static str,
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) params: Vec<Described>,
    /// The schema of the body that it takes, and whether one has to come.
    pub(super) body: Option<(Value, bool)>,
    pub(super) answers: Vec<Answer>,
    /// The refusals that come from the handler: the status, and when, unless that is common.
    pub(super) refusals: Vec<(u16, Option<&'static str>)>,
    handler: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// `GET path`, named `name` in the description, for `text`.
    pub fn get<H: Handler<T, S>, T: 'static>(
        path: &'static str,
        name: &'static str,
        text: &'static str,
        handler: H,
    ) -> Self {
        let handler = on(MethodFilter::GET, handler);
        Self::new(Method::GET, path, name, text, handler)
    }

    /// `POST path`, named `name` in the description, for `text`.
    pub fn post<H: Handler<T, S>, T: 'static>(
        path: &'static str,
        name: &'static str,
        text: &'static str,
        handler: H,
    ) -> Self {
        let handler = on(MethodFilter::POST, handler);
        Self::new(Method::POST, path, name, text, handler)
    }

    fn new(
        method: Method,
        path: &'static str,
        name: &'static str,
        text: &'static str,
        handler: MethodRouter<S>,
    ) -> Self {
        Self {
            method,
            path,
            name,
            text,
            params: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: Vec::new(),
            handler,
        }
    }

    /// Says what a parameter in the path is: a text like any other.
    pub fn path(self, name: &'static str, text: &'static str) -> Self {
        self.path_as::<String>(name, text)
    }

    /// Says what a parameter in the path is: a `T`.
    pub fn path_as<T: JsonSchema>(self, name: &'static str, text: &'static str) -> Self {
        self.param(name, Place::Path, true, text, openapi::taken::<T>())
    }

    /// Takes a header that is a `T`, which may be left out.
    pub fn header<T: JsonSchema>(self, name: &'static str, text: &'static str) -> Self {
        self.param(name, Place::Header, false, text, openapi::taken::<T>())
    }

    /// Takes the fields of `T` as parameters in the query.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        for field in openapi::fields::<T>() {
            let (name, required) = (field.name, field.required);
            self = self.param(name, Place::Query, required, field.text, field.schema);
        }
        self
    }

    fn param(
        mut self,
        name: impl Into<String>,
        place: Place,
        required: bool,
        text: impl Into<String>,
        schema: Value,
    ) -> Self {
        self.params.push(Described {
            name: name.into(),
            place,
            required,
            text: text.into(),
            schema,
        });
        self
    }

    /// Takes a JSON body.
    pub fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some((openapi::taken::<T>(), true));
        self
    }

    /// Takes a JSON body, which may be left out.
    pub fn body_or_none<T: JsonSchema>(mut self) -> Self {
        self.body = Some((openapi::taken::<T>(), false));
        self
    }

    /// Answers JSON.
    pub fn answers<T: JsonSchema>(self, status: u16, text: &'static str) -> Self {
        self.answer(status, text, "application/json", Some(schema_of::<T>))
    }

    /// Answers text of the media type `media`.
    pub fn answers_text(self, status: u16, media: &'static str, text: &'static str) -> Self {
        self.answer(status, text, media, None)
    }

    fn answer(
        mut self,
        status: u16,
        text: &'static str,
        media: &'static str,
        schema: Option<SchemaOf>,
    ) -> Self {
        self.answers.push(Answer {
            status,
            text,
            media,
            schema,
            headers: Vec::new(),
        });
        self
    }

    /// The answer that was named last has a header, always.
    pub fn with_header(self, name: &'static str, text: &'static str) -> Self {
        self.answered_with(name, text, true)
    }

    /// The answer that was named last has a header, sometimes.
    pub fn may_have_header(self, name: &'static str, text: &'static str) -> Self {
        self.answered_with(name, text, false)
    }

    fn answered_with(mut self, name: &'static str, text: &'static str, always: bool) -> Self {
        let answer = self
            .answers
            .last_mut()
            .expect("an answer was named before its headers");
        answer.headers.push(Header { name, text, always });
        self
    }

    /// Refuses with a problem of this status, besides those that [`guarded`](super::guarded) and the check of requests
    /// answer.
    pub fn refuses(mut self, status: u16, text: &'static str) -> Self {
        self.refusals.push((status, Some(text)));
        self
    }

    /// May answer that it can't be done now (503): what stands on a store or a broker may.
    pub fn can_be_unavailable(mut self) -> Self {
        self.refusals.push((503, None));
        self
    }

    /// Its name in the description.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The same route with another handler: described and checked as it is, and answered by somebody else.
    pub fn handled_by<H: Handler<T, S>, T: 'static>(mut self, handler: H) -> Self {
        let method = if self.method == Method::GET {
            MethodFilter::GET
        } else {
            MethodFilter::POST
        };
        self.handler = on(method, handler);
        self
    }

    fn rules(&self, operators: bool) -> Rules {
        let params = self.params.iter().map(|param| Param {
            name: param.name.clone(),
            place: param.place,
            required: param.required,
            shape: Shape::of(&param.schema, &param.schema),
        });
        let body = self.body.as_ref().map(|(schema, required)| TakenBody {
            shape: Shape::of(schema, schema),
            required: *required,
        });
        Rules {
            params: params.collect(),
            body,
            operators,
        }
    }
}

/// An HTTP API: its routes, and what the description says about it as a whole.
#[derive(Debug)]
#[must_use]
pub struct Api<S> {
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    pub(super) version: &'static str,
    pub(super) routes: Vec<Route<S>>,
    operators: bool,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// An API of `routes`.
    pub fn new(
        title: &'static str,
        version: &'static str,
        text: &'static str,
        routes: Vec<Route<S>>,
    ) -> Self {
        Self {
            title,
            text,
            version,
            routes,
            operators: false,
        }
    }

    /// The API of those who have to mend what fails: its problems say what failed, and not only under which id the
    /// log has it.
    pub fn for_operators(mut self) -> Self {
        self.operators = true;
        self
    }

    /// The method and path of each route.
    pub fn table(&self) -> impl Iterator<Item = (&Method, &'static str)> {
        self.routes.iter().map(|route| (&route.method, route.path))
    }

    /// The router of all routes, with the description at `description_path`. What fits no route is a problem, too,
    /// once the whole is [`guarded`](super::guarded).
    pub fn router(mut self, description_path: &'static str) -> Router<S> {
        let description: &'static str = "The routes of this API, as an OpenAPI 3.1 document";
        let itself = Route::get(description_path, "openapi", description, || async {})
            .answers_text(200, "application/json", "The document.");
        self.routes.push(itself);
        let document = self.description().to_string();
        self.routes.pop();
        let serve = move || {
            let document = document.clone();
            async move {
                (
                    [(axum::http::header::CONTENT_TYPE, "application/json")],
                    document,
                )
            }
        };
        let mut router = Router::new().route(description_path, on(MethodFilter::GET, serve));
        for route in self.routes {
            let rules = Arc::new(route.rules(self.operators));
            let kept = from_fn_with_state(rules, rules::keep);
            router = router.route(route.path, route.handler.route_layer(kept));
        }
        router
    }
}

/// `router`, with problems for paths and methods that it doesn't have.
pub(super) fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(|request: axum::extract::Request| async move {
            Problem::not_found(format!("there is nothing at `{}`", request.uri().path()))
        })
        .method_not_allowed_fallback(|request: axum::extract::Request| async move {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed here",
                format!(
                    "`{}` doesn't take {}",
                    request.uri().path(),
                    request.method()
                ),
            )
        })
}
