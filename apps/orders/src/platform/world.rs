//! What a platform runs on: everything that is not its own code.

use std::{collections::BTreeMap, fmt, sync::Arc};

use factum::{Broker, Env, Store, Stores};

use super::Role;
use crate::outside::Outside;

/// What a platform runs on: everything that is not its own code.
#[derive(Clone)]
pub struct World {
    /// Time and chance.
    pub env: Env,
    /// The topics.
    pub broker: Arc<dyn Broker>,
    /// A store for each role, in the order of [`Role::ALL`].
    pub stores: [Arc<dyn Store>; 5],
    /// The firms outside.
    pub outside: Outside,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

impl From<World> for Part {
    fn from(world: World) -> Self {
        Self {
            env: world.env,
            broker: world.broker,
            stores: Role::ALL.into_iter().zip(world.stores).collect(),
            outside: world.outside,
            opened: None,
        }
    }
}

/// What some of the services run on, where the others are other processes.
#[derive(Clone)]
pub struct Part {
    /// Time and chance.
    pub env: Env,
    /// The topics, which all processes share.
    pub broker: Arc<dyn Broker>,
    /// The stores of the services that run here.
    pub stores: BTreeMap<Role, Arc<dyn Store>>,
    /// The firms outside.
    pub outside: Outside,
    /// Where the stores are from, to be closed when all has stopped.
    pub opened: Option<Arc<dyn Stores>>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}
