//! What counts as quiet, and what is said when it is not.

use factum_core::{
    Append, Begin, Codec, Commit, Draft, ExpectedVersion, Headers, Input, MessageId, Metadata,
    Outgoing, RecordKind, RelayInput, ServiceName, Start, StoreId, StreamId, Timestamp, TopicSpec,
    TypeName, VoidInput, inbox::Seen,
};

use super::*;
use crate::{MemoryStore, MemoryTopicsDisk, TestEnv};

struct World {
    env: Env,
    store: Arc<MemoryStore>,
    broker: Arc<dyn Broker>,
}

impl World {
    async fn new() -> Self {
        let env = TestEnv::seeded(1).env();
        let store = MemoryStore::new(StoreId(env.uuid()), ServiceName::of("payment"), env.now());
        let broker = MemoryTopicsDisk::new().open(env.clone());
        broker
            .ensure_topic(&TopicSpec::new(Topic::of("orders"), 1))
            .await
            .unwrap();
        Self {
            env,
            store: Arc::new(store),
            broker: Arc::new(broker),
        }
    }

    fn quiet(&self) -> Quiet {
        Quiet::new(&self.env, self.broker.clone())
            .store(self.store.clone())
            .group("payment", ["orders"])
    }

    /// What goes on, after a few looks.
    async fn goes_on(&self) -> Vec<String> {
        let outcome = self.quiet().looking(3, EVERY).run_until_quiet().await;
        outcome.map_or_else(|not| not.goes_on, |()| Vec::new())
    }

    async fn append(&self) {
        let stream: StreamId = "payment/1".parse().unwrap();
        let draft = Draft {
            kind: RecordKind::Event,
            stream: Some(stream.clone()),
            event_id: self.env.message_id(),
            event_type: TypeName::new("Charged", 1),
            destination: None,
            timestamp: self.env.now(),
            correlation_id: MessageId::from("story"),
            causation_id: None,
            metadata: Metadata::new(),
            tags: Vec::new(),
            codec: Codec::Json,
            protection: None,
            data: "{}".into(),
        };
        let mut commit = Commit::new(self.env.commit_id(), self.env.now());
        commit.appends = vec![Append {
            stream,
            expected: ExpectedVersion::Any,
            drafts: vec![draft],
        }];
        self.store.commit(commit).await.unwrap();
    }

    async fn relay(&self) {
        let fence = self.store.claim_relay().await.unwrap().fence;
        let checkpoint = self.store.head().await.unwrap();
        let mut commit = Commit::new(self.env.commit_id(), self.env.now());
        commit.input = Input::Relay(RelayInput {
            fence,
            checkpoint,
            lasts: Vec::new(),
            rewind: false,
        });
        self.store.commit(commit).await.unwrap();
    }

    async fn publish(&self) {
        let mut producer = self.broker.producer().await.unwrap();
        let message = Outgoing {
            topic: Topic::of("orders"),
            partition: 0,
            key: None,
            headers: Headers::new(),
            value: None,
            timestamp: self.env.now(),
        };
        producer.send(vec![(1, message)]).await.unwrap();
        producer.reports().await.unwrap();
    }

    async fn handle(&self) {
        let inbox = InboxId {
            group: Group::of("payment"),
            topic: Topic::of("orders"),
            partition: 0,
        };
        let row = self
            .store
            .claim_inbox(&inbox, &Begin::at(Start::Beginning, 0))
            .await
            .unwrap();
        let mut commit = Commit::new(self.env.commit_id(), self.env.now());
        let advance = [Seen {
            from: row.low,
            offset: row.low,
            void: true,
            link: None,
            timestamp: Timestamp::UNIX_EPOCH,
        }]
        .into();
        commit.input = Input::Void(VoidInput {
            inbox,
            fence: row.fence,
            advance,
            trying: None,
            release: true,
            accept: None,
        });
        self.store.commit(commit).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn it_says_exactly_what_goes_on_and_is_quiet_when_all_of_it_is_done() {
    let world = World::new().await;
    assert_eq!(world.goes_on().await, [""; 0]);

    world.append().await;
    world.publish().await;
    let projection = factum_core::ProjectionName::of("orders");
    world
        .store
        .claim_projection(&projection, 1, "x")
        .await
        .unwrap();
    assert_eq!(
        world.goes_on().await,
        [
            "payment: the relay has published up to 0, the head is 1-1",
            "payment: inbox payment:orders:0 was never claimed, and has 1 messages",
            "payment: projection orders@1 shows up to 0, the head is 1-1",
        ]
    );

    world.relay().await;
    world.store.forget_projection(&projection, 1).await.unwrap();
    world.handle().await;
    assert_eq!(world.goes_on().await, [""; 0]);

    world.publish().await;
    assert_eq!(
        world.goes_on().await,
        ["payment: inbox payment:orders:0 is handled up to 1, the partition ends at 2"]
    );
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_what_goes_on_in_the_background() {
    let world = Arc::new(World::new().await);
    world.publish().await;
    let other = world.clone();
    let handled = tokio::spawn(async move {
        tokio::task::yield_now().await;
        other.handle().await;
    });
    world.quiet().run_until_quiet().await.unwrap();
    handled.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_world_that_is_quiet_at_each_look_and_never_the_same_is_not_quiet() {
    let world = Arc::new(World::new().await);
    // What the hook does takes no time and leaves nothing undone: only the marks tell that it happened.
    let restless = world.clone();
    let quiet = world.quiet().looking(5, EVERY).each_turn(move || {
        futures_util::FutureExt::now_or_never(async {
            restless.publish().await;
            restless.handle().await;
        });
    });
    let not = quiet.run_until_quiet().await.unwrap_err();
    assert_eq!(
        not.to_string(),
        "not quiet after 5 looks: something happened between any two of them"
    );
}
