//! Who may use a server, and what is said when it is not as it should be.

use factum_core::{ErrorClass, Query};
use factum_redis::{RedisOptions, RedisViews};

use crate::{
    server::Server,
    shelf::{Owner, view, views},
    support::Place,
};

/// A server that knows a user.
fn with_user(user: &str, settings: &[&str]) -> Option<Server> {
    let mut all = settings.to_vec();
    all.push("--user");
    all.extend(user.split(' '));
    Server::start(&all)
}

async fn refused(url: &str) -> factum_core::Error {
    let options = RedisOptions::parse(url).expect("the address has its form");
    let connected = RedisViews::connect(options).await;
    connected.expect_err("it should be refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_and_password_are_shown_and_a_wrong_one_is_named() {
    // What the internals' page says that a user needs.
    let user = "views on >s3:cr@t ~t* +@all -@admin -@dangerous +info";
    let Some(server) = with_user(user, &["--requirepass", "sesame"]) else {
        return;
    };
    let at = |account: &str| format!("redis://{account}127.0.0.1:{}/3", server.port);
    for account in [":sesame@", "views:s3%3Acr%40t@"] {
        let place = Place::on(&at(account));
        let process = place.process().await;
        let mut owner = Owner::claim(&process.store, 1).await.expect("it may");
        for _ in 0..3 {
            owner.count_one("a").await.expect("it may");
        }
        let query = Query::all().sort("total");
        let found = views(&*process.store).query(&view(), Some(1), &query).await;
        assert_eq!(found.expect("it may").rows.len(), 1);
        assert!(
            process.views.remarks().is_empty(),
            "{:?}",
            process.views.remarks()
        );
        // Dropping wants rights of its own.
        let dropped = views(&*process.store)
            .drop_generation(&owner.input.projection, 1)
            .await;
        dropped.expect("it may");
    }
    for (account, says) in [
        ("", "wants a password"),
        (":open@", "refuses this password"),
        ("views:wrong@", "refuses user `views`"),
        ("nobody:wrong@", "refuses user `nobody`"),
    ] {
        let error = refused(&at(account)).await;
        assert_eq!(error.class(), ErrorClass::Fatal, "{account}: {error}");
        assert!(error.to_string().contains(says), "{account}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_ask_who_the_server_is_is_served_all_the_same() {
    let user = "views on >secret ~t* +@all -@admin -@dangerous";
    let Some(server) = with_user(user, &[]) else {
        return;
    };
    let place = Place::on(&format!("redis://views:secret@127.0.0.1:{}/0", server.port));
    let process = place.process().await;
    let mut owner = Owner::claim(&process.store, 1).await.expect("it may");
    owner.count_one("a").await.expect("it may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_is_told_which_it_needs() {
    let user = "views on >secret ~other:* +@all";
    let Some(server) = with_user(user, &[]) else {
        return;
    };
    let place = Place::on(&format!("redis://views:secret@127.0.0.1:{}/0", server.port));
    let process = place.process().await;
    let claimed = Owner::claim(&process.store, 1).await.map(drop);
    let error = claimed.expect_err("the keys are not its own");
    assert_eq!(error.class(), ErrorClass::Fatal, "{error:#}");
    assert!(error.to_string().contains("+@all -@admin"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_or_database_that_is_not_there_is_named() {
    let Some(server) = Server::start(&["--databases", "2"]) else {
        return;
    };
    let port = server.port;
    let error = refused(&format!("redis://127.0.0.1:{port}/2")).await;
    assert_eq!(error.class(), ErrorClass::Fatal, "{error}");
    assert!(error.to_string().contains("no database 2"), "{error}");
    drop(server);
    let error = refused(&format!("redis://127.0.0.1:{port}")).await;
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_keeps_nothing_and_one_that_only_reads_are_told_of() {
    let Some(master) = Server::start(&["--appendonly", "no"]) else {
        return;
    };
    let port = master.port.to_string();
    let Some(replica) = Server::start(&["--replicaof", "127.0.0.1", &port]) else {
        return;
    };
    let place = Place::on(&master.url());
    let remarks = place.process().await.views.remarks();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].contains("appendonly yes"), "{remarks:?}");
    let place = Place::on(&replica.url());
    let process = place.process().await;
    let remarks = process.views.remarks();
    assert!(
        remarks.iter().any(|remark| remark.contains("replica")),
        "{remarks:?}"
    );
    let claimed = Owner::claim(&process.store, 1).await.map(drop);
    let error = claimed.expect_err("it only reads");
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
}
