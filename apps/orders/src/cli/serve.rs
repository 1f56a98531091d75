//! What `serve` may be told: which services run here, on which engines, and where the others are.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use orders::platform::Role;
use reqwest::Url;

use super::address::{self, Broker, Store, Views};
use crate::failure::Failure;

/// What `serve` may be told.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Serve {
    /// A service to run, on engines; may be given several times. Without it, all five.
    ///
    /// `users`, `order`, `payment`, `stock` or `notification`; or `query`, which answers
    /// queries and speaks for all the others: it is what a client talks to.
    #[arg(long = "role", value_name = "ROLE", value_parser = role, verbatim_doc_comment)]
    pub(crate) roles: Vec<Role>,

    /// Where stores are: `postgres://user:password@host:5432/database`. Each service has a schema.
    ///
    /// With it goes `--broker`; without both, stores and topics are in one directory
    /// (`--data`).
    #[arg(long, value_name = "URL", value_parser = address::store, verbatim_doc_comment)]
    pub(crate) store: Option<Store>,

    /// Where topics are: `kafka://host:9092,host:9092`.
    #[arg(long, value_name = "URL", value_parser = address::broker, verbatim_doc_comment)]
    pub(crate) broker: Option<Broker>,

    /// Where rows for queries are: `redis://...`, `elasticsearch://...`; by default in the stores.
    #[arg(long, value_name = "URL", value_parser = address::views, verbatim_doc_comment)]
    pub(crate) views: Option<Views>,

    /// Where the pretended firms are, as `orders outside` serves them: `http://host:7405`.
    ///
    /// The roles `payment` and `notification` speak to them, all processes to the same.
    #[arg(long, value_name = "URL", value_parser = address::http, verbatim_doc_comment)]
    pub(crate) outside: Option<Url>,

    /// With role `query`: where another role is, `order=http://host:7402`; once for each process.
    #[arg(long = "peer", value_name = "ROLE=URL", value_parser = peer, verbatim_doc_comment)]
    pub(crate) peers: Vec<(Role, Url)>,

    /// What names begin with on the engines, so that several platforms can share them.
    ///
    /// Schemas, topics, groups, keys and indexes. Small letters, digits and `_`.
    #[arg(long, value_name = "TEXT", value_parser = address::prefix, verbatim_doc_comment)]
    pub(crate) prefix: Option<String>,
}

/// What a process runs on engines.
#[derive(Clone, Debug)]
pub(crate) struct Engines {
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) store: Store,
    pub(crate) broker: Broker,
    #[cfg_attr(
        not(feature = "engines"),
        expect(dead_code, reason = "who has the engines reads it")
    )]
    pub(crate) views: Views,
    pub(crate) outside: Option<Url>,
    pub(crate) peers: BTreeMap<Role, Vec<Url>>,
    #[cfg_attr(
        not(feature = "engines"),
        expect(dead_code, reason = "who has the engines reads it")
    )]
    pub(crate) prefix: String,
}

impl Engines {
    /// Whether this process speaks for all the others.
    pub(crate) fn is_front(&self) -> bool {
        self.roles.contains(&Role::Query)
    }
}

impl Serve {
    /// What is to run on engines; nothing, where all is in a directory.
    ///
    /// # Errors
    ///
    /// When what is said doesn't go together, in words that say what would.
    pub(crate) fn engines(&self) -> Result<Option<Engines>, Failure> {
        let wrong = |what: String| Err(Failure::with_code(2, what));
        let (store, broker) = match (&self.store, &self.broker) {
            (Some(store), Some(broker)) => (store.clone(), broker.clone()),
            (None, Some(_)) => {
                return wrong("`--broker` needs `--store postgres://...` beside it: a directory has topics of its own".into());
            }
            (Some(_), None) => {
                return wrong("`--store` needs `--broker kafka://...` beside it: topics are what services share".into());
            }
            (None, None) => {
                return match self.for_engines_only() {
                    None => Ok(None),
                    Some(option) => wrong(format!(
                        "`{option}` needs `--store postgres://... --broker kafka://...` beside it: in a directory \
                         one process runs all services"
                    )),
                };
            }
        };
        let mut roles: BTreeSet<_> = self.roles.iter().copied().collect();
        if roles.is_empty() {
            roles.extend(Role::ALL);
        }
        let views = self.views.clone().unwrap_or(Views::WithStores);
        if let Views::Postgres(url) = &views
            && *url != store.0
        {
            return wrong(
                "`--views postgres://...` must be the address of `--store`: rows in PostgreSQL are in the database of \
                 the stores, one commit with what they are made of"
                    .into(),
            );
        }
        let mut peers: BTreeMap<Role, Vec<Url>> = BTreeMap::new();
        for (role, url) in &self.peers {
            peers.entry(*role).or_default().push(url.clone());
        }
        let engines = Engines {
            roles,
            store,
            broker,
            views,
            outside: self.outside.clone(),
            peers,
            prefix: self.prefix.clone().unwrap_or_default(),
        };
        engines.check()?;
        Ok(Some(engines))
    }

    /// The first option that makes sense with engines only.
    fn for_engines_only(&self) -> Option<&'static str> {
        let given = [
            ("--role", !self.roles.is_empty()),
            ("--views", self.views.is_some()),
            ("--outside", self.outside.is_some()),
            ("--peer", !self.peers.is_empty()),
            ("--prefix", self.prefix.is_some()),
        ];
        given
            .into_iter()
            .find_map(|(option, given)| given.then_some(option))
    }
}

impl Engines {
    fn check(&self) -> Result<(), Failure> {
        let wrong = |what: String| Err(Failure::with_code(2, what));
        let charges = [Role::Payment, Role::Notification];
        if let Some(role) = charges.iter().find(|role| self.roles.contains(role))
            && self.outside.is_none()
        {
            return wrong(format!(
                "role `{role}` needs `--outside http://...`, the firms that all its processes speak to: `orders \
                 outside` serves them"
            ));
        }
        if !self.is_front() {
            return if self.peers.is_empty() {
                Ok(())
            } else {
                wrong(
                    "`--peer` is for role `query`: the other services meet over topics alone"
                        .into(),
                )
            };
        }
        if self.roles.len() > 1 {
            return wrong(
                "role `query` speaks for all the others, and is a process of its own".into(),
            );
        }
        if self.peers.contains_key(&Role::Query) {
            return wrong(
                "`--peer query=` has no use: this process answers what `query` does".into(),
            );
        }
        let missing: Vec<_> = Role::ALL
            .into_iter()
            .filter(|role| !self.peers.contains_key(role))
            .map(|role| format!("`--peer {role}=http://...`"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        wrong(format!(
            "role `query` passes on what the others decide, and must know where they are: {}",
            missing.join(" ")
        ))
    }
}

fn role(name: &str) -> Result<Role, String> {
    Role::parse(name).ok_or_else(|| {
        let known: Vec<_> = Role::EVERY.iter().map(|role| role.name()).collect();
        format!("there is no such role (known: {})", known.join(", "))
    })
}

fn peer(text: &str) -> Result<(Role, Url), String> {
    let (name, url) = text
        .split_once('=')
        .ok_or("write it as `order=http://127.0.0.1:7402`")?;
    Ok((role(name)?, address::http(url)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    const ENGINES: [&str; 2] = ["--store=postgres://db/shop", "--broker=kafka://k:9092"];

    fn read(args: &[&str]) -> Result<Option<Engines>, Failure> {
        let line = Line::try_parse_from([&["serve"], args].concat()).unwrap();
        line.serve.engines()
    }

    #[track_caller]
    fn refuses(args: &[&str], wanted: &[&str]) {
        let failure = read(args).unwrap_err();
        assert_eq!(failure.code(), 2);
        let said = failure.to_string();
        for wanted in wanted {
            assert!(said.contains(wanted), "no {wanted:?} in: {said}");
        }
    }

    #[test]
    fn without_engines_all_is_in_a_directory() {
        assert!(read(&[]).unwrap().is_none());
        refuses(
            &["--role=order"],
            &["`--role` needs", "--store postgres://", "--broker kafka://"],
        );
        refuses(&["--prefix=a"], &["`--prefix` needs"]);
    }

    #[test]
    fn stores_and_topics_go_together() {
        refuses(&ENGINES[..1], &["--broker kafka://"]);
        refuses(&ENGINES[1..], &["--store postgres://"]);
    }

    #[test]
    fn no_role_is_all_that_do_the_business() {
        let args = [&ENGINES[..], &["--outside=http://127.0.0.1:7405"]].concat();
        let engines = read(&args).unwrap().unwrap();
        assert_eq!(engines.roles, Role::ALL.into_iter().collect());
        assert!(!engines.is_front());
        refuses(&ENGINES, &["--outside http://", "`orders outside`"]);
    }

    #[test]
    fn who_speaks_for_all_knows_where_they_are() {
        let mut args = [&ENGINES[..], &["--role=query"]].concat();
        refuses(&args, &["--peer users=", "--peer notification="]);
        let peers: Vec<_> = Role::ALL
            .iter()
            .map(|role| format!("--peer={role}=http://127.0.0.1:7401"))
            .collect();
        args.extend(peers.iter().map(String::as_str));
        args.push("--peer=order=http://127.0.0.1:7412");
        let engines = read(&args).unwrap().unwrap();
        assert_eq!(engines.peers[&Role::Order].len(), 2);
        let itself = [&args[..], &["--peer=query=http://127.0.0.1:7400"]].concat();
        refuses(&itself, &["`--peer query=` has no use"]);
        args.push("--role=stock");
        refuses(&args, &["a process of its own"]);
        let peer = "--peer=users=http://127.0.0.1:1";
        refuses(
            &[&ENGINES[..], &["--role=order", peer]].concat(),
            &["`--peer` is for role `query`"],
        );
    }

    #[test]
    fn rows_in_another_database_are_refused() {
        let role = "--role=order";
        refuses(
            &[&ENGINES[..], &[role, "--views=postgres://other/shop"]].concat(),
            &["`--views postgres://...` must be"],
        );
        let same = [&ENGINES[..], &[role, "--views=postgres://db/shop"]].concat();
        assert!(read(&same).is_ok());
    }
}
