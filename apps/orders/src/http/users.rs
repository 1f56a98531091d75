//! Users over HTTP.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::Response,
};
use factum_admin::web::{FromBody, FromPath, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Shop,
    command::{Asked, Refusal},
    freshness::{Carried, unanswered},
    texts::{Email, Words},
};
use crate::{
    contracts::UserId,
    order::knows_user,
    platform::Role,
    users::{RegisterUser, USERS, User, UserError},
};

/// A user to register.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterBody {
    /// Their name.
    name: Words,
    /// Their e-mail address.
    email: Email,
}

/// A user that was registered.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct RegisteredView {
    user_id: String,
    /// What all that follows from it shares: see `/admin/stories/{correlation_id}`.
    correlation_id: String,
}

/// A user.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct UserView {
    user_id: String,
    name: String,
    email: String,
}

impl Refusal for UserError {
    fn problem(&self) -> Problem {
        match self {
            Self::Registered(_) => Problem::conflict(self.to_string()),
            Self::Invalid { field, problem } => {
                Problem::invalid("the user can't be registered").field(*field, problem)
            }
        }
    }
}

pub(super) async fn register(
    State(shop): State<Shop>,
    asked: Asked,
    FromBody(body): FromBody<RegisterBody>,
) -> Result<Response, Problem> {
    let user_id = UserId::of(&shop.env.uuid().to_string());
    let correlation_id = shop.env.message_id();
    let answer = RegisteredView {
        user_id: user_id.to_string(),
        correlation_id: correlation_id.to_string(),
    };
    let command = RegisterUser {
        user_id: user_id.clone(),
        name: body.name.0.clone(),
        email: body.email.0.clone(),
    };
    let done = shop
        .execute::<User, _>(
            Role::Users,
            &user_id,
            command,
            asked.with(&body, correlation_id),
            answer,
        )
        .await?;
    let location = format!("/users/{}", done.answer.user_id);
    let mut response = done.answered(StatusCode::CREATED);
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn one(
    State(shop): State<Shop>,
    FromPath(id): FromPath<String>,
    Carried(token): Carried,
) -> Result<Json<UserView>, Problem> {
    let found = shop
        .queries(Role::Users)
        .get(USERS, &id, token.as_ref())
        .await
        .map_err(unanswered)?;
    let row = found.value.ok_or_else(|| no_user(&id))?;
    Ok(Json(UserView {
        user_id: row.user_id.to_string(),
        name: row.name,
        email: row.email,
    }))
}

fn no_user(id: &str) -> Problem {
    Problem::not_found(format!(
        "there is no user `{}`",
        id.chars().take(100).collect::<String>()
    ))
}

/// Refuses an order of somebody who is not registered. It asks the registry itself and no view, so that who was registered
/// a moment ago may order; where that is another process, what the order service has imported from it.
pub(super) async fn must_be_registered(shop: &Shop, user: &UserId) -> Result<(), Problem> {
    let platform = &shop.platform;
    let known = if platform.has(Role::Users) {
        match platform.commands(Role::Users).load::<User>(user).await {
            Ok((user, _)) => user.registered.is_some(),
            Err(error) if !error.is_poison() => return Err(error.into()),
            Err(_) => false,
        }
    } else {
        knows_user(&**platform.service(Role::Order).store(), user).await?
    };
    if known {
        return Ok(());
    }
    Err(Problem::invalid("the order can't be taken")
        .field("user_id", "is not registered: `POST /users` gives an id"))
}
