//! Two processes that write to one aggregate.

use std::sync::Arc;

use factum::{App, Commands, Running, Service, ServiceName, StoreId, Version};
use factum_testkit::{MemoryDisk, MemoryStore, MemoryTopicsDisk, TestEnv};

use crate::world::{Account, AccountCommand};

const TASKS: u64 = 8;
const COMMANDS: u64 = 100;

async fn start(env: &TestEnv, disk: &MemoryDisk) -> Running {
    let broker = Arc::new(MemoryTopicsDisk::new().open(env.env()));
    let store = Arc::new(MemoryStore::open(disk.clone()));
    let service = Service::new("accounts").aggregate::<Account>();
    let app = App::new(env.env(), broker).service_on(store, service);
    app.start().await.unwrap()
}

async fn deposit_all(commands: Commands) {
    for _ in 0..COMMANDS {
        let deposit = AccountCommand::Deposit(1);
        let executed = commands.execute::<Account>("hot", deposit).await;
        executed.unwrap();
        tokio::task::yield_now().await;
    }
}

/// Commands were decided again at once, 32 times at most: two processes in step could refuse each other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_commands_of_two_processes_on_one_aggregate_none_is_refused() {
    let env = TestEnv::seeded(71);
    let (id, now) = (StoreId(env.env().uuid()), env.env().now());
    let disk = MemoryDisk::new(id, ServiceName::of("accounts"), now);
    let processes = [start(&env, &disk).await, start(&env, &disk).await];
    let commands = processes
        .each_ref()
        .map(|running| running.service("accounts").unwrap().commands());
    let tasks = commands
        .iter()
        .flat_map(|commands| (0..TASKS).map(|_| tokio::spawn(deposit_all(commands.clone()))));
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no command is refused");
    }
    let (account, version) = commands[0].load::<Account>("hot").await.unwrap();
    assert_eq!(version, Version(2 * TASKS * COMMANDS));
    assert_eq!(account.balance, 2 * TASKS * COMMANDS);
    for running in &processes {
        running.stop().await;
    }
}
