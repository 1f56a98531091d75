//! Health: what each part of a service is doing, as facts that an operator can read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use factum_core::Timestamp;
use serde::Serialize;

/// How a part is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status", content = "reason")]
pub enum Status {
    /// It does its work.
    Running,
    /// It is in trouble, and tries again by itself.
    Degraded(String),
    /// It has stopped by itself, and waits for a person.
    Failed(String),
    /// It was stopped by a person, or has not been started.
    Stopped,
}

/// The parts of one service and how each is doing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, (Status, Timestamp)>>>,
}

impl Health {
    /// Notes how `part` is doing, and since when if that is new.
    pub fn set(&self, part: &str, status: Status, now: Timestamp) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match parts.get_mut(part) {
            Some((known, _)) if *known == status => {}
            Some(known) => {
                match &status {
                    Status::Degraded(reason) => tracing::warn!("{part} is in trouble: {reason}"),
                    Status::Failed(reason) => tracing::error!("{part} has stopped: {reason}"),
                    Status::Running | Status::Stopped => tracing::info!("{part} is {status:?}"),
                }
                *known = (status, now);
            }
            None => {
                parts.insert(part.to_string(), (status, now));
            }
        }
    }

    /// All parts, with how each is doing and since when.
    pub fn parts(&self) -> BTreeMap<String, (Status, Timestamp)> {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether every part does its work.
    pub fn is_well(&self) -> bool {
        self.parts()
            .values()
            .all(|(status, _)| *status == Status::Running)
    }
}
