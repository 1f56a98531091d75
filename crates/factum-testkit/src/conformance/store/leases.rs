//! Leases: which of several processes may do what only one does.

use std::sync::Arc;

use factum_core::{Epoch, Holder, Lease, ProjectionName, Role, Store};
use uuid::Uuid;

use super::{
    StoreHarness,
    world::{World, at},
};

const A: Holder = Holder(Uuid::from_u128(1));
const B: Holder = Holder(Uuid::from_u128(2));

async fn lease(world: &World, role: &Role) -> Lease {
    let lease = world.store.lease(role).await;
    lease.expect("a lease reads")
}

async fn set(store: &dyn Store, role: &Role, seen: u64, holder: Option<Holder>) -> bool {
    let set = store.set_lease(role, seen, holder).await;
    set.expect("a lease is given, or it is said that it was changed")
}

/// Signs of life, a change of hands and the return are one comparison of the beat each; each role has a lease of its
/// own, kept over a restart and a new epoch.
pub async fn a_lease_changes_hands_for_whoever_saw_its_last_beat(harness: &dyn StoreHarness) {
    let mut world = World::create(harness).await;
    if !world.store.capabilities().shared {
        let refused = world.store.lease(&Role::Relay).await;
        assert!(refused.is_err(), "nobody asks a store that isn't shared");
        return;
    }
    let print = |text: &str| Role::Projection(ProjectionName::of("orders"), text.into());
    let roles = [Role::Relay, Role::Timers, print("one"), print("two")];
    for role in &roles {
        let world = &world;
        assert_eq!(lease(world, role).await, Lease::default(), "{role}");
        assert!(set(&*world.store, role, 0, Some(A)).await);
        let held = Lease {
            holder: Some(A),
            beat: 1,
        };
        assert_eq!(lease(world, role).await, held, "{role}");
        assert!(!set(&*world.store, role, 0, Some(B)).await);
        assert_eq!(lease(world, role).await, held, "{role}");
    }
    assert!(set(&*world.store, &Role::Relay, 1, Some(A)).await);
    assert!(set(&*world.store, &Role::Relay, 2, Some(B)).await);
    assert!(!set(&*world.store, &Role::Relay, 2, None).await);
    assert!(set(&*world.store, &Role::Timers, 1, None).await);
    let epoch = Epoch(world.store.identity().epoch.0 + 1);
    let opened = world.store.open_epoch(epoch, at(1), "a test").await;
    opened.expect("a greater epoch is opened");

    world = world.reopen(harness).await;
    let holders = [Some(B), None, Some(A), Some(A)];
    for ((role, holder), beat) in roles.iter().zip(holders).zip([3, 2, 1, 1]) {
        assert_eq!(lease(&world, role).await, Lease { holder, beat }, "{role}");
    }
}

/// Of several processes that saw a lease stand still, one gets it.
pub async fn of_many_who_take_a_lease_one_gets_it(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let Some(second) = world.second(harness).await else {
        return;
    };
    for beat in 0..20 {
        let takers = (0..8_u128).map(|taker| {
            let store: Arc<dyn Store> = if taker % 2 == 0 {
                world.store.clone()
            } else {
                second.store.clone()
            };
            let holder = Some(Holder(Uuid::from_u128(taker)));
            tokio::spawn(async move { set(&*store, &Role::Relay, beat, holder).await })
        });
        let mut got = 0;
        for taker in takers.collect::<Vec<_>>() {
            got += u32::from(taker.await.expect("a taker ends"));
        }
        assert_eq!(got, 1, "beat {beat}");
        assert_eq!(lease(&second, &Role::Relay).await.beat, beat + 1);
    }
}
