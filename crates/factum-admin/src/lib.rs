//! The admin API of Factum: what happened and why, what is stuck, and the means to mend it, over HTTP.
//!
//! [`Admin`] is the API over a [`Running`](factum::Running) app, as an axum router. What it takes and answers are
//! types of its own: what the core calls its things may change, what an operator's script reads may not. [`web`]
//! holds what every HTTP API needs (access, problems, requests, routes and their OpenAPI document, serving), for
//! the API of an application, too.
//!
//! ```
//! use std::sync::Arc;
//! use factum::{Env, Error, Running};
//! use factum_admin::{Admin, web};
//! use tokio::net::TcpListener;
//! use tokio_util::sync::CancellationToken;
//!
//! async fn serve(running: Arc<Running>, env: Env, stop: CancellationToken) -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = TcpListener::bind("127.0.0.1:7400").await?;
//!     let address = listener.local_addr()?;
//!     let tokens = vec![];
//!     web::allow_listen(address, &tokens)?;
//!     let access = web::Access::new(address, tokens, [], Admin::open_paths());
//!     let router = web::guarded(Admin::new(running, env).router(), access);
//!     Ok(web::serve(listener, router, stop).await?)
//! }
//! ```

mod admin;
pub use admin::Admin;
mod api;
pub use api::causes_first;
pub mod web;
