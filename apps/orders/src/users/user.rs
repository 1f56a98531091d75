//! A user: registered once.

use factum::{Aggregate, Decision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contracts::{UserId, UserRegistered};

/// The longest name or e-mail address, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// A user as far as the registry decides on them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// What was registered.
    pub registered: Option<UserRegistered>,
}

/// The one thing a user can do: register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterUser {
    /// The new user's id.
    pub user_id: UserId,
    /// Their name.
    pub name: String,
    /// Their e-mail address.
    pub email: String,
}

/// Why a user is not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The id is taken.
    #[error("user `{0}` is registered already")]
    Registered(UserId),
    /// A field can't be as it is.
    #[error("`{field}` {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

impl Aggregate for User {
    const CATEGORY: &'static str = "user";
    type Id = UserId;
    type Command = RegisterUser;
    type Event = UserRegistered;
    type Error = UserError;

    fn handle(
        &self,
        command: RegisterUser,
        _: &Decision,
    ) -> Result<Vec<UserRegistered>, UserError> {
        let RegisterUser {
            user_id,
            name,
            email,
        } = command;
        if self.registered.is_some() {
            return Err(UserError::Registered(user_id));
        }
        let (name, email) = (name.trim().to_string(), email.trim().to_string());
        let invalid = |field, problem: &str| {
            Err(UserError::Invalid {
                field,
                problem: problem.into(),
            })
        };
        if name.is_empty() || name.chars().count() > TEXT_CHARS_MAX {
            return invalid("name", "must have 1 to 200 characters");
        }
        let address = email
            .split_once('@')
            .is_some_and(|(who, host)| !who.is_empty() && !host.is_empty());
        if !address || email.chars().count() > TEXT_CHARS_MAX || email.contains(char::is_whitespace)
        {
            return invalid(
                "email",
                "must be an e-mail address, such as `kim@example.org`",
            );
        }
        Ok(vec![UserRegistered {
            user_id,
            name,
            email,
        }])
    }

    fn apply(&mut self, event: &UserRegistered) {
        self.registered = Some(event.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use factum_testkit::given;

    fn register(name: &str, email: &str) -> RegisterUser {
        RegisterUser {
            user_id: "u-1".into(),
            name: name.into(),
            email: email.into(),
        }
    }

    fn registered() -> UserRegistered {
        UserRegistered {
            user_id: "u-1".into(),
            name: "Kim".into(),
            email: "kim@example.org".into(),
        }
    }

    #[test]
    fn a_user_registers_once() {
        given::<User>([])
            .when(register(" Kim ", "kim@example.org"))
            .then([registered()]);
        given::<User>([registered()])
            .when(register("Lee", "lee@example.org"))
            .then_error(UserError::Registered("u-1".into()));
    }

    #[test]
    fn a_refusal_names_the_field() {
        let field = |command| match given::<User>([]).when(command).error() {
            Some(UserError::Invalid { field, .. }) => *field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(register("  ", "kim@example.org")), "name");
        assert_eq!(field(register(&"x".repeat(201), "kim@example.org")), "name");
        for bad in ["", "kim", "@example.org", "kim@", "k m@example.org"] {
            assert_eq!(field(register("Kim", bad)), "email", "{bad:?}");
        }
    }
}
