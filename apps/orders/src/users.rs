//! The user registry: who there is.

mod user;
pub use user::{RegisterUser, User, UserError};
mod view;
pub(crate) use view::KeepUsers;
pub use view::{USERS, UserRow};

use factum::Service;

/// The service's name, and that of its store.
pub const NAME: &str = "users";

/// The user registry.
pub fn service() -> Service {
    Service::new(NAME)
        .aggregate::<User>()
        .projection(view::KeepUsers)
}
