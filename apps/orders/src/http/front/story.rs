//! The story of a correlation id over several services.

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use factum_admin::causes_first;
use factum_admin::web::Problem;
use serde_json::{Value, json};

use super::admin::Gathering;

/// The events of all services that belong together, causes before their effects.
pub(super) async fn story(gathering: &Gathering<'_>) -> Result<Response, Problem> {
    let (mut events, mut parked, mut cut) = (Vec::new(), Vec::new(), false);
    let mut head = None;
    let mut unknown = None;
    for role in Gathering::roles() {
        let answered = gathering.ask(role, gathering.asked).await?;
        if answered.status == StatusCode::NOT_FOUND {
            unknown = Some(answered);
            continue;
        }
        if !answered.status.is_success() {
            return Ok(answered.into());
        }
        let mut part = answered.json();
        // A process may have several services, and be asked for each.
        let mut of_role = |list: &str| -> Vec<Value> {
            let rows = part[list].as_array_mut().map(std::mem::take);
            let mut rows = rows.unwrap_or_default();
            rows.retain(|row| row["service"] == role.name());
            rows
        };
        events.extend(of_role("events"));
        parked.extend(of_role("parked"));
        cut |= part["cut"] == true;
        head = head.or_else(|| part["correlation_id"].as_str().map(str::to_owned));
    }
    let Some(correlation_id) = head else {
        return Ok(unknown.map_or_else(|| StatusCode::NOT_FOUND.into_response(), Response::from));
    };
    let story = json!({
        "correlation_id": correlation_id,
        "events": causes_first(events),
        "parked": parked,
        "cut": cut,
    });
    Ok(axum::Json(story).into_response())
}
