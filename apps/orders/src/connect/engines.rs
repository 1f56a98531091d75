//! PostgreSQL, Kafka, Redis and Elasticsearch: what a process of some services runs on.

use std::{collections::BTreeMap, sync::Arc};

use factum::{Broker, Env, Error, ServiceName, Store, Stores, ViewsEngine, WithViews};
use factum_elasticsearch::{ElasticsearchOptions, ElasticsearchViews};
use factum_kafka::{Kafka, KafkaOptions};
use factum_postgres::{Postgres, PostgresOptions};
use factum_redis::{RedisOptions, RedisViews};
use orders::{
    outside::Outside,
    platform::{Part, Role},
    prefixed::Prefixed,
};

use super::NotConnected;
use crate::{
    cli::{Engines, Views, secret},
    failure::Failure,
};

/// What the process runs on; `tokens` are its own.
pub(crate) async fn part(
    engines: &Engines,
    env: &Env,
    tokens: &[String],
) -> Result<Part, NotConnected> {
    let broker = broker(engines).await?;
    let options = PostgresOptions::new(&engines.store.0).schema_prefix(&engines.prefix);
    let postgres: Arc<dyn Stores> = Arc::new(Postgres::new(&options)?);
    let stores = match views(engines).await? {
        Some(views) => Arc::new(WithViews::new(postgres, views)),
        None => postgres,
    };
    let mut open: BTreeMap<Role, Arc<dyn Store>> = BTreeMap::new();
    for role in &engines.roles {
        let name = ServiceName::of(role.name());
        open.insert(*role, stores.open(&name, env).await?);
    }
    let outside = match &engines.outside {
        Some(url) => Outside::at(url.clone(), tokens.first().map(String::as_str).map(secret))?,
        // Who speaks to no firm needs none.
        None => Outside::in_memory(),
    };
    Ok(Part {
        env: env.clone(),
        broker,
        stores: open,
        outside,
        opened: Some(stores),
    })
}

async fn broker(engines: &Engines) -> Result<Arc<dyn Broker>, NotConnected> {
    let options = read("--broker", KafkaOptions::parse(&engines.broker.0))?;
    let kafka = Kafka::connect(options).await?;
    if engines.prefix.is_empty() {
        return Ok(Arc::new(kafka));
    }
    Ok(Arc::new(Prefixed::new(engines.prefix.clone(), kafka)))
}

async fn views(engines: &Engines) -> Result<Option<Arc<dyn ViewsEngine>>, NotConnected> {
    const OPTION: &str = "--views";
    let prefix = engines.prefix.trim_end_matches('_');
    Ok(match &engines.views {
        Views::WithStores | Views::Postgres(_) => None,
        Views::Redis(url) => {
            let mut options = read(OPTION, RedisOptions::parse(url))?;
            if !prefix.is_empty() {
                options = options.key_prefix(prefix)?;
            }
            Some(Arc::new(RedisViews::connect(options).await?))
        }
        Views::Elasticsearch(url) => {
            let mut options = read(OPTION, ElasticsearchOptions::parse(url))?;
            if !prefix.is_empty() {
                prefix.clone_into(&mut options.prefix);
            }
            Some(Arc::new(ElasticsearchViews::connect(options)?))
        }
    })
}

/// An address that its engine has read, or what is wrong with it.
fn read<T>(option: &str, parsed: Result<T, Error>) -> Result<T, NotConnected> {
    let wrong = |error| Failure::with_code(2, format!("`{option}`: {error:#}"));
    parsed.map_err(|error| NotConnected::Failed(wrong(error)))
}
