//! What the user registry says.

use factum::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::UserId;

/// A user was registered.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "UserRegistered", version = 1, topic = "users")]
pub struct UserRegistered {
    /// The user.
    pub user_id: UserId,
    /// Their name.
    pub name: String,
    /// Their e-mail address.
    pub email: String,
}
