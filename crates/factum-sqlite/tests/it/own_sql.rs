//! Own SQL: atomic with its commit, harmless to its neighbours, and confined to the service's own tables.

use factum_core::{Commit, ErrorClass, ExpectedVersion, SqlValue, Store as _, ViewWrite};
use factum_sqlite::SqliteStore;
use futures_util::future::join_all;

use crate::support::{Directory, appending, commit, store};

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
        "CREATE TABLE order_totals (user TEXT PRIMARY KEY, total INTEGER, note BLOB) STRICT",
    )
    .await;
    run(
        &order,
        "CREATE INDEX order_totals_by_total ON order_totals (total)",
    )
    .await;
    let values = [
        SqlValue::Text("anna".into()),
        SqlValue::Integer(1_200),
        SqlValue::Bytes(vec![0, 255]),
    ];
    let insert =
        "INSERT INTO order_totals VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET total = total + ?2";
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
        rows(&order, "SELECT * FROM order_totals").await,
        std::slice::from_ref(&expected)
    );
    assert_eq!(order.head().await.expect("it can be read").position.0, 2);

    let backup = directory.path().join("backup");
    order.backup(&backup).await.expect("a backup is written");
    let file = rusqlite::Connection::open(&backup).expect("it is a SQLite file");
    let total = file.query_row("SELECT total FROM order_totals", [], |row| {
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
        "CREATE TABLE order_totals (user TEXT PRIMARY KEY) STRICT",
    )
    .await;
    let commits = (0..60).map(|number| {
        let user = SqlValue::Text(format!("user-{number}"));
        let mut views = vec![sql(
            "INSERT INTO order_totals VALUES (?1)",
            std::slice::from_ref(&user),
        )];
        match number % 4 {
            0 => {}
            1 => views.push(sql("INSERT INTO order_totals VALUES (?1)", &[user])),
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
        rows(&order, "SELECT count(*) FROM order_totals").await,
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
    run(&order, "CREATE TABLE order_t (n INTEGER)").await;
    run(&payment, "CREATE TABLE payment_t (n INTEGER)").await;
    order
        .commit(appending("order/1", ExpectedVersion::Any))
        .await
        .expect("it is applied");
    for statement in [
        "DELETE FROM records",
        "UPDATE stores SET id = x'00'",
        "INSERT INTO order_t SELECT key FROM records",
        "INSERT INTO order_t SELECT seq FROM events",
        "INSERT INTO payment_t VALUES (1)",
        "INSERT INTO order_t SELECT n FROM payment_t",
        "CREATE TABLE totals (n INTEGER)",
        "CREATE TABLE payment_u (n INTEGER)",
        "DROP TABLE records",
        "ALTER TABLE records ADD COLUMN n INTEGER",
        "CREATE INDEX order_i ON records (stream)",
        "CREATE TRIGGER order_x AFTER INSERT ON records BEGIN DELETE FROM order_t; END",
        "CREATE TEMP TABLE order_temp (n INTEGER)",
        "CREATE VIRTUAL TABLE order_v USING fts5 (text)",
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
    assert!(text.contains("whose names begin with `order_`"), "{text}");
    // A trigger is made by one statement and fires within another: it is asked about then.
    run(
        &order,
        "CREATE TRIGGER order_y AFTER INSERT ON order_t BEGIN DELETE FROM payment_t; END",
    )
    .await;
    let commit = Commit {
        views: vec![sql("INSERT INTO order_t VALUES (1)", &[])],
        ..commit()
    };
    order
        .commit(commit)
        .await
        .expect_err("its trigger reaches out");
    run(&payment, "INSERT INTO payment_t VALUES (7)").await;
    assert_eq!(
        rows(&payment, "SELECT n FROM payment_t").await,
        [[SqlValue::Integer(7)]]
    );
    assert_eq!(order.head().await.expect("it can be read").position.0, 1);
}
