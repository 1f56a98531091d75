//! The registry's own view: its users as rows.

use factum::{Failure, Projection, Recorded, RowSet, View, ViewDefinition};
use serde::{Deserialize, Serialize};

use crate::contracts::{UserId, UserRegistered};

/// All users, by id.
pub const USERS: View<UserRow> = View::new("users");

/// A user as queries show them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// The user.
    pub user_id: UserId,
    /// Their name.
    pub name: String,
    /// Their e-mail address.
    pub email: String,
}

/// Keeps users.
pub(crate) struct KeepUsers;

impl Projection for KeepUsers {
    const NAME: &'static str = "users";
    type Event = UserRegistered;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![USERS.kept_by::<Self>()]
    }

    async fn project(
        &self,
        event: &Recorded<UserRegistered>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let UserRegistered {
            user_id,
            name,
            email,
        } = event.data.clone();
        rows.put(
            USERS,
            user_id.as_str(),
            &UserRow {
                user_id: user_id.clone(),
                name,
                email,
            },
        )
    }
}
