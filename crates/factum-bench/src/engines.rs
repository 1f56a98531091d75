//! The world of real engines: which servers there are, and what is measured on them.

use std::{env, path::Path, sync::Arc};

use crate::{
    failure::Failure,
    subject::{Aims, Cluster, OnPostgres, Ours, Server, Unnest, World},
};

/// Where PostgreSQL is.
const POSTGRES: &str = "FACTUM_TEST_POSTGRES";

/// Where Kafka is.
const KAFKA: &str = "FACTUM_TEST_KAFKA";

/// The servers of a run.
pub(crate) struct Engines {
    pub(crate) postgres: Option<World>,
    server: Option<Server>,
    pub(crate) cluster: Option<Cluster>,
    /// What is not measured, and why.
    pub(crate) left_out: Vec<String>,
    /// What the servers call themselves.
    pub(crate) versions: Vec<String>,
}

impl Engines {
    /// Looks for servers.
    pub(crate) async fn find() -> Result<Self, Failure> {
        let mut left_out = Vec::new();
        let mut versions = Vec::new();
        let mut address = |variable, what: &str| {
            let address = env::var(variable).ok().filter(|text| !text.is_empty());
            if address.is_none() {
                left_out.push(format!(
                    "{what}: `{variable}` tells of no server (`cargo xtask servers up` starts all, `eval \"$(cargo xtask servers env)\"` tells where)"
                ));
            }
            address
        };
        let server = address(POSTGRES, "all on PostgreSQL").map(Server::new);
        if let Some(server) = &server {
            versions.push(format!("PostgreSQL {}", server.version().await?));
        }
        let cluster = address(KAFKA, "all over Kafka").map(Cluster::new);
        if let Some(cluster) = &cluster {
            versions.push(cluster.version().await?);
        }
        if server.is_none() && cluster.is_none() {
            return Err(Failure::new(format!(
                "nothing can be measured. Left out: {}",
                left_out.join("; ")
            )));
        }
        left_out.push(
            "the whole saga: its services as processes are not driven from here yet".to_owned(),
        );
        Ok(Self {
            postgres: server.clone().map(on_postgres),
            server,
            cluster,
            left_out,
            versions,
        })
    }

    /// Removes what a run has left on the servers, however it ended.
    pub(crate) async fn clean_up(&self, home: &Path) -> Result<(), Failure> {
        if let Some(server) = &self.server {
            server.drop_all(home).await?;
        }
        if let Some(cluster) = &self.cluster {
            cluster.delete_all(home).await?;
        }
        Ok(())
    }
}

/// PostgreSQL, for a process of several: the run that started it has found it.
pub(crate) fn postgres() -> Result<Server, Failure> {
    env::var(POSTGRES)
        .map(Server::new)
        .map_err(|error| Failure::while_(format!("reading `{POSTGRES}`"), error))
}

/// PostgreSQL: the group commit that one would write by hand, and ours.
fn on_postgres(server: Server) -> World {
    let backend = Arc::new(OnPostgres(server.clone()));
    World {
        subjects: vec![Box::new(Unnest(server)), Box::new(Ours(backend.clone()))],
        backend,
        aims: Aims {
            commands: &[(64, &[Some(90.0)]), (256, &[Some(90.0)])],
            catch_up: 200_000.0,
            replay: &[(10_000, 4, 1_200_000.0)],
        },
    }
}
