//! Without faults, what is wrapped passes the suites as it does without a wrapper: every call is passed on.

use std::{sync::Arc, time::Duration};

use factum_core::{Broker, Store, Timestamp};
use factum_testkit::{
    Faults, FaultyBroker, FaultyStore,
    conformance::{broker::BrokerHarness, store::StoreHarness},
};

/// What another harness makes, behind a plan without faults.
struct Faulty<H> {
    inner: H,
    faults: Faults,
}

impl<H> Faulty<H> {
    fn of(inner: H) -> Self {
        Self {
            inner,
            faults: Faults::new(),
        }
    }

    fn store(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(FaultyStore::new("a", store, &self.faults))
    }
}

#[async_trait::async_trait]
impl<H: StoreHarness> StoreHarness for Faulty<H> {
    async fn create(&self) -> Arc<dyn Store> {
        self.store(self.inner.create().await)
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.store(self.inner.reopen(store).await)
    }

    async fn second(&self) -> Option<Arc<dyn Store>> {
        Some(self.store(self.inner.second().await?))
    }

    async fn backup(&self) -> bool {
        self.inner.backup().await
    }

    async fn restore(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.store(self.inner.restore(store).await)
    }
}

#[async_trait::async_trait]
impl<H: BrokerHarness> BrokerHarness for Faulty<H> {
    async fn open(&self) -> Arc<dyn Broker> {
        Arc::new(FaultyBroker::new(
            "a",
            self.inner.open().await,
            &self.faults,
        ))
    }

    async fn reopen(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        Arc::new(FaultyBroker::new(
            "a",
            self.inner.reopen(broker).await,
            &self.faults,
        ))
    }

    async fn pass(&self, duration: Duration) {
        self.inner.pass(duration).await;
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn sweeps(&self) -> bool {
        self.inner.sweeps()
    }
}

mod store {
    use super::Faulty;
    factum_testkit::store_suite!(Faulty::of(crate::store::memory()));
}

mod views {
    use super::Faulty;
    factum_testkit::views_suite!(Faulty::of(crate::store::memory()));
}

mod broker {
    use super::Faulty;
    factum_testkit::broker_suite!(Faulty::of(crate::broker::Memory::new()));
}
