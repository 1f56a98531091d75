//! Routes: one table that is the router and its description at once, so that neither can know more than the other.

use axum::{
    Router,
    handler::Handler,
    http::{Method, StatusCode},
    routing::{MethodFilter, MethodRouter, on},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Problem;

/// How a schema is made, once the document that it stands in is known.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A parameter of a path, a query or the headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) place: &'static str,
    pub(super) text: &'static str,
}

/// What a route may answer, besides problems.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: &'static str,
    pub(super) media: &'static str,
    pub(super) schema: Option<SchemaOf>,
}

/// A method on a path: what it is for, what it takes, what it answers, and the handler that does it.
#[derive(Debug)]
#[must_use]
pub struct Route<S> {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) params: Vec<Param>,
    pub(super) body: Option<SchemaOf>,
    pub(super) answers: Vec<Answer>,
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
        Self::new(
            Method::GET,
            path,
            name,
            text,
            on(MethodFilter::GET, handler),
        )
    }

    /// `POST path`, named `name` in the description, for `text`.
    pub fn post<H: Handler<T, S>, T: 'static>(
        path: &'static str,
        name: &'static str,
        text: &'static str,
        handler: H,
    ) -> Self {
        Self::new(
            Method::POST,
            path,
            name,
            text,
            on(MethodFilter::POST, handler),
        )
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
            handler,
        }
    }

    /// Says what a parameter in the path is.
    pub fn path(self, name: &'static str, text: &'static str) -> Self {
        self.param(name, "path", text)
    }

    /// Takes a parameter in the query, which may be left out.
    pub fn query(self, name: &'static str, text: &'static str) -> Self {
        self.param(name, "query", text)
    }

    /// Takes a header, which may be left out.
    pub fn header(self, name: &'static str, text: &'static str) -> Self {
        self.param(name, "header", text)
    }

    fn param(mut self, name: &'static str, place: &'static str, text: &'static str) -> Self {
        self.params.push(Param { name, place, text });
        self
    }

    /// Takes a JSON body.
    pub fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(schema_of::<T>);
        self
    }

    /// Answers JSON.
    pub fn answers<T: JsonSchema>(self, status: u16, text: &'static str) -> Self {
        self.answer(Answer {
            status,
            text,
            media: "application/json",
            schema: Some(schema_of::<T>),
        })
    }

    /// Answers text of the media type `media`.
    pub fn answers_text(self, status: u16, media: &'static str, text: &'static str) -> Self {
        self.answer(Answer {
            status,
            text,
            media,
            schema: None,
        })
    }

    fn answer(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
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
        }
    }

    /// The method and path of each route.
    pub fn table(&self) -> impl Iterator<Item = (&Method, &'static str)> {
        self.routes.iter().map(|route| (&route.method, route.path))
    }

    /// The router of all routes, with the description at `description_path`. What fits no route is a problem, too,
    /// once the whole is [`guarded`](super::guarded).
    pub fn router(self, description_path: &'static str) -> Router<S> {
        let description: &'static str = "the routes below, as an OpenAPI 3.1 document";
        let itself = Route::get(description_path, "openapi", description, || async {})
            .answers_text(200, "application/json", "The document.");
        let mut api = self;
        api.routes.push(itself);
        let document = api.description().to_string();
        api.routes.pop();
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
        for route in api.routes {
            router = router.route(route.path, route.handler);
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
