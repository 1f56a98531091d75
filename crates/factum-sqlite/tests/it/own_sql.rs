//! Own SQL: atomic with its commit, harmless to its neighbours, and confined to the service's own tables.

use factum_core::{
    Commit, Epoch, ErrorClass, ExpectedVersion, ServiceName, SqlValue, Store as _, ViewWrite,
};
use factum_sqlite::{Restore, Sqlite, SqliteStore};
use futures_util::future::join_all;

use crate::support::{AT, Directory, appending, commit, env, store};

fn sql(statement: &str, parameters: &[SqlValue]) -> ViewWrite {
    ViewWrite::Sql {
        statement: statement.into(),
        parameters: parameters.to_vec(),
    }
}

async fn run(store: &SqliteStore, statement: &str) {
    let commit = Commit {
        views: vec![sql(statement, &[])],
        ..commit()
    };
    store
        .commit(commit)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}

async fn rows(store: &SqliteStore, statement: &str) -> Vec<Vec<SqlValue>> {
    store
        .read_own(statement, Vec::new(), 100)
        .await
        .expect("it can be read")
}

#[tokio::test]
async fn own_tables_are_written_with_the_events_that_led_to_it() {
    let directory = Directory::new();
    let order = directory.store().await;
    assert_eq!(order.capabilities().sql, Some("sqlite"));
    run(
        &order,
        "CREATE TABLE order__totals (user TEXT PRIMARY KEY, total INTEGER, note BLOB) STRICT",
    )
    .await;
    run(
        &order,
        "CREATE INDEX order__totals_by_total ON order__totals (total)",
    )
    .await;
    let values = [
        SqlValue::Text("anna".into()),
        SqlValue::Integer(1_200),
        SqlValue::Bytes(vec![0, 255]),
    ];
    let insert = "INSERT INTO order__totals VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET total = total + ?2";
    for _ in 0..2 {
        let views = vec![sql(insert, &values)];
        order
            .commit(Commit {
                views,
                ..appending("order/1", ExpectedVersion::Any)
            })
            .await
            .expect("it is applied");
    }
    let expected = vec![
        values[0].clone(),
        SqlValue::Integer(2_400),
        values[2].clone(),
    ];
    assert_eq!(
        rows(&order, "SELECT * FROM order__totals").await,
        std::slice::from_ref(&expected)
    );
    assert_eq!(order.head().await.expect("it can be read").position.0, 2);

    let backup = directory.path().join("backup");
    order.backup(&backup).await.expect("a backup is written");
    let file = rusqlite::Connection::open(&backup).expect("it is a SQLite file");
    let total = file.query_row("SELECT total FROM order__totals", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(
        total,
        Ok(2_400),
        "own tables are in the backup of their store"
    );
}

/// A statement that fails is undone with all of its commit; what shares the transaction stays.
#[tokio::test]
async fn a_statement_that_fails_is_poison_for_its_commit_alone() {
    let directory = Directory::new();
    let order = directory.store().await;
    run(
        &order,
        "CREATE TABLE order__totals (user TEXT PRIMARY KEY) STRICT",
    )
    .await;
    let commits = (0..60).map(|number| {
        let user = SqlValue::Text(format!("user-{number}"));
        let mut views = vec![sql(
            "INSERT INTO order__totals VALUES (?1)",
            std::slice::from_ref(&user),
        )];
        match number % 4 {
            0 => {}
            1 => views.push(sql("INSERT INTO order__totals VALUES (?1)", &[user])),
            2 => views.push(sql("INSERT INTO nowhere VALUES (1)", &[])),
            _ => views.push(sql("this is not SQL", &[])),
        }
        order.commit(Commit {
            views,
            ..appending("order/1", ExpectedVersion::Any)
        })
    });
    let results = join_all(commits).await;
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(_) => assert_eq!(number % 4, 0),
            Err(error) => assert!(
                number % 4 != 0 && error.class() == ErrorClass::Poison,
                "{number}: {error}"
            ),
        }
    }
    assert_eq!(
        rows(&order, "SELECT count(*) FROM order__totals").await,
        [[SqlValue::Integer(15)]]
    );
    assert_eq!(order.head().await.expect("it can be read").position.0, 15);
}

/// Whatever the way: SQLite itself asks for each table.
#[tokio::test]
async fn own_sql_touches_the_tables_of_its_service_only() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let (order, payment) = (
        store(&sqlite, "order").await,
        store(&sqlite, "payment").await,
    );
    run(&order, "CREATE TABLE order__t (n INTEGER)").await;
    run(&payment, "CREATE TABLE payment__t (n INTEGER)").await;
    order
        .commit(appending("order/1", ExpectedVersion::Any))
        .await
        .expect("it is applied");
    for statement in [
        "DELETE FROM records",
        "UPDATE stores SET id = x'00'",
        "INSERT INTO order__t SELECT key FROM records",
        "INSERT INTO order__t SELECT seq FROM events",
        "INSERT INTO payment__t VALUES (1)",
        "INSERT INTO order__t SELECT n FROM payment__t",
        "CREATE TABLE totals (n INTEGER)",
        "CREATE TABLE payment__u (n INTEGER)",
        "DROP TABLE records",
        "ALTER TABLE records ADD COLUMN n INTEGER",
        "ALTER TABLE order__t RENAME TO payment__u",
        "ALTER TABLE order__t RENAME TO totals",
        "alter table \"order__t\" rename to \"Records_2\"",
        "CREATE INDEX order__i ON records (stream)",
        "CREATE TRIGGER order__x AFTER INSERT ON records BEGIN DELETE FROM order__t; END",
        "CREATE TEMP TABLE order__temp (n INTEGER)",
        "CREATE VIRTUAL TABLE order__v USING fts5 (text)",
        "ATTACH 'other.db' AS other",
        "PRAGMA synchronous = OFF",
        "PRAGMA writable_schema = ON",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT mine",
        "VACUUM",
    ] {
        let commit = Commit {
            views: vec![sql(statement, &[])],
            ..appending("order/2", ExpectedVersion::Any)
        };
        let error = order.commit(commit).await.expect_err(statement);
        assert_eq!(error.class(), ErrorClass::Poison, "{statement}: {error}");
        order
            .read_own(statement, Vec::new(), 1)
            .await
            .expect_err(statement);
    }
    let error = order
        .commit(Commit {
            views: vec![sql("DELETE FROM records", &[])],
            ..commit()
        })
        .await;
    let text = error.expect_err("it is refused").to_string();
    assert!(text.contains("whose names begin with `order__`"), "{text}");
    for statement in [
        "ALTER TABLE order__t RENAME TO order__u",
        "ALTER TABLE order__u RENAME COLUMN n TO m",
        "ALTER TABLE order__u ADD COLUMN payment__t INTEGER",
        "ALTER TABLE order__u RENAME TO order__t",
    ] {
        run(&order, statement).await;
    }
    // A trigger is made by one statement and fires within another: it is asked about then.
    run(
        &order,
        "CREATE TRIGGER order__y AFTER INSERT ON order__t BEGIN DELETE FROM payment__t; END",
    )
    .await;
    let commit = Commit {
        views: vec![sql("INSERT INTO order__t VALUES (1)", &[])],
        ..commit()
    };
    order
        .commit(commit)
        .await
        .expect_err("its trigger reaches out");
    run(&payment, "INSERT INTO payment__t VALUES (7)").await;
    assert_eq!(
        rows(&payment, "SELECT n FROM payment__t").await,
        [[SqlValue::Integer(7)]]
    );
    assert_eq!(order.head().await.expect("it can be read").position.0, 1);
}

/// A restore of `order` dropped the tables of `order-history`, and either could write the other's.
#[tokio::test]
async fn services_with_names_that_begin_alike_keep_their_tables_apart() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let (order, history) = (
        store(&sqlite, "order").await,
        store(&sqlite, "order-history").await,
    );
    run(&order, "CREATE TABLE order__history (n INTEGER)").await;
    run(&history, "CREATE TABLE order_history__seen (n INTEGER)").await;
    run(&history, "INSERT INTO order_history__seen VALUES (7)").await;
    for (store, statement) in [
        (&order, "INSERT INTO order_history__seen VALUES (1)"),
        (&order, "DROP TABLE order_history__seen"),
        (&order, "CREATE TABLE order_history__more (n INTEGER)"),
        (&history, "INSERT INTO order__history VALUES (1)"),
        (&history, "CREATE TABLE order_history_x (n INTEGER)"),
    ] {
        let commit = Commit {
            views: vec![sql(statement, &[])],
            ..commit()
        };
        let error = store.commit(commit).await.expect_err(statement);
        assert_eq!(error.class(), ErrorClass::Poison, "{statement}: {error}");
    }
    let backup = directory.path().join("order.backup");
    order.backup(&backup).await.expect("a backup is written");
    run(&history, "INSERT INTO order_history__seen VALUES (8)").await;
    drop((order, history));
    sqlite.close().await;
    let restore = Restore {
        at: AT,
        epoch_min: Epoch(0),
        reason: "a test".into(),
    };
    Sqlite::restore(&backup, &directory.options(), &restore).expect("it is restored");
    let sqlite = directory.open();
    let history = store(&sqlite, "order-history").await;
    assert_eq!(
        rows(&history, "SELECT n FROM order_history__seen ORDER BY n").await,
        [[SqlValue::Integer(7)], [SqlValue::Integer(8)]],
        "a restore of one service leaves its neighbour's tables alone"
    );
}

#[tokio::test]
async fn services_whose_tables_could_not_be_told_apart_share_no_file() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let _order = store(&sqlite, "order-history").await;
    for name in ["order.history", "Order_History"] {
        let error = sqlite
            .store(&ServiceName::of(name), &env())
            .await
            .expect_err("their tables begin alike");
        let text = error.to_string();
        assert!(
            error.is_fatal() && text.contains("`order_history__`") && text.contains(name),
            "{text}"
        );
    }
}

/// Tables by the rule of one underscore would be in no backup, and nobody could use them.
#[tokio::test]
async fn an_own_table_by_the_former_rule_is_named_and_not_left_behind() {
    let directory = Directory::new();
    let sqlite = directory.open();
    drop(store(&sqlite, "order").await);
    sqlite.close().await;
    rusqlite::Connection::open(directory.file())
        .expect("it is a SQLite file")
        .execute_batch("CREATE TABLE order_totals (n INTEGER)")
        .expect("a table is made");
    let sqlite = directory.open();
    let error = sqlite
        .store(&ServiceName::of("order"), &env())
        .await
        .expect_err("whose is it?");
    let text = error.to_string();
    assert!(
        text.contains("`order_totals`") && text.contains("rename it to `order__totals`"),
        "{text}"
    );
    store(&sqlite, "stream").await;
}
