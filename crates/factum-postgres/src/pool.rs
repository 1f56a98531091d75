//! Connections that read, and do what is brief: each is lent to one caller at a time.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use factum_core::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{connect::Connector, connection::Connection};

/// Up to a number of connections, made when they are first needed.
pub(crate) struct Pool {
    pub(crate) connector: Connector,
    free: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new(connector: Connector, connections: usize) -> Self {
        Self {
            connector,
            free: Arc::default(),
            permits: Arc::new(Semaphore::new(connections)),
        }
    }

    /// A connection, as soon as one is free.
    pub(crate) async fn lend(&self) -> Result<Lent, Error> {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        let connection = loop {
            let free = lock(&self.free).pop();
            match free {
                None => break self.connector.connect().await?,
                Some(connection) if connection.is_closed() => {}
                Some(connection) => break connection,
            }
        };
        Ok(Lent {
            connection: Some(connection),
            free: self.free.clone(),
            _permit: permit,
        })
    }

    /// Lends nothing more.
    pub(crate) fn close(&self) {
        self.permits.close();
        lock(&self.free).clear();
    }
}

/// What everybody is told who comes too late.
pub(crate) fn closed() -> Error {
    Error::fatal("the store is closed")
}

/// A connection that is lent. Dropping it gives it back.
///
/// Dropped in the middle of a request, its answer is read and forgotten before the next one's.
pub(crate) struct Lent {
    connection: Option<Connection>,
    free: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Deref for Lent {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("it is given back when it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self
            .connection
            .take()
            .filter(|connection| !connection.is_closed())
        {
            lock(&self.free).push(connection);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
