//! The platform on a real data directory, with real time.

use std::time::Duration;

use factum::RetryPolicy;
use orders::{
    order::Status,
    outside::Outside,
    platform::{Platform, PlatformOptions},
};

use crate::harness::{Fixture, tea};

fn options(directory: &tempfile::TempDir) -> PlatformOptions {
    // Quick enough for a test that waits for retries.
    let retry = RetryPolicy::exponential(Duration::from_millis(20));
    PlatformOptions::new(directory.path()).retry(retry)
}

/// A life of the process: when it ends, all that runs ends with it, wherever it stands.
fn life<T>(lived: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(lived)
}

#[test]
fn orders_go_on_where_they_stood_when_the_platform_was_stopped_or_killed() {
    let directory = tempfile::tempdir().unwrap();
    life(async {
        let fixture = Fixture::on(Platform::open(options(&directory)).await.unwrap()).await;
        fixture.place("o-1", tea(3), "card:flaky").await;
        fixture.settle().await;
        fixture.place("o-2", tea(3), "card:ok").await;
        // It is not stopped: whatever is under way is under way.
    });
    let charged = life(async {
        let fixture = Fixture::again(Platform::open(options(&directory)).await.unwrap());
        fixture.place("o-3", tea(5), "card:ok").await;
        fixture.settle().await;
        let charged = fixture.platform.outside().gateway.charges().unwrap();
        fixture.stop().await;
        charged
    });
    assert_eq!(charged.len(), 3);
    let books = Outside::open(&directory.path().join("outside")).unwrap();
    assert_eq!(books.gateway.charges().unwrap(), charged);
    drop(books);
    life(async {
        let fixture = Fixture::again(Platform::open(options(&directory)).await.unwrap());
        fixture.settle().await;
        let mut confirmed = 0;
        for order in ["o-1", "o-2", "o-3"] {
            confirmed += u32::from(fixture.status(order).await == Some(Status::Confirmed));
        }
        // Ten were there: two of the three orders, whichever was served first.
        assert_eq!(confirmed, 2);
        fixture.stop().await;
    });
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::open(options(&directory)).await.unwrap();
    let error = Platform::open(options(&directory)).await.unwrap_err();
    assert!(error.is_fatal(), "{error:?}");
    platform.stop().await;
    Platform::open(options(&directory))
        .await
        .unwrap()
        .stop()
        .await;
}
