//! What every HTTP API of Factum has in common: problems, requests, routes and their description, access, serving.
//!
//! The admin API stands on it, and an application's own API may: then both refuse in the same words, are
//! described by the same kind of document, and are guarded by the same middleware. Nothing here knows a store,
//! a service or an event.

mod access;
pub(crate) use access::Refused;
pub use access::{Access, Actor, InvalidToken, RefusedListen, Token, allow_listen, guarded};
mod problem;
pub use problem::{FieldError, PROBLEM_JSON, Problem};
mod reason;
pub use reason::{REASON_CHARS_MAX, reason};
mod request;
pub use request::{
    BODY_BYTES_MAX, BODY_READ_MAX, FromBody, FromBodyOrDefault, FromPath, FromQuery, read_body,
};
mod route;
pub use route::{Api, Route};
mod rules;
mod shape;
pub use shape::Shape;
mod openapi;
mod patience;
mod serve;
pub use serve::{
    ANSWER_STALL_MAX, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEADERS_READ_MAX, connections_max, serve,
};
