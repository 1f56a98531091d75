//! The core of Factum: what its parts say to each other, and the rules that need no I/O.
//!
//! Application code uses the facade crate `factum`, which re-exports what it needs. This crate is for those who
//! write an adapter (a store, a broker, a views engine) or a tool. It does no I/O, spawns nothing, reads no
//! clock and draws no randomness: all of that comes in through [`Env`] and the three ports, [`Store`],
//! [`Broker`] and [`Views`].

mod name;
pub use name::{
    Category, Group, HandlerName, InvalidName, NAME_BYTES_MAX, ProjectionName, ServiceName, Topic,
    ViewName,
};
mod id;
pub use id::{CommitId, MESSAGE_ID_BYTES_MAX, MessageId, StoreId};
mod position;
pub use position::{At, Epoch, Fence, InvalidAt, OwnerEpoch, Position, Version};
mod time;
pub use time::{InvalidTimestamp, Timestamp};
mod stream;
pub use stream::{ExpectedVersion, InvalidStreamId, STREAM_ID_BYTES_MAX, StreamId, ToId};
mod key;
pub use key::Key;
mod json;
pub use json::{Json, Metadata};
mod error;
pub use error::{Error, ErrorClass};
mod failure;
pub use failure::{Failure, FailureClass, Outcome};
mod retry;
pub use retry::RetryPolicy;
mod env;
pub use env::{Env, Source};
mod record;
pub use record::{
    Codec, Destination, Draft, RECORD_BYTES_MAX, Record, RecordKind, RecordState, TypeName,
    checksum,
};
mod event;
pub use event::{Event, EventType, Named, Part, Recorded, Upcast, UpcastError, UpcastStep};
mod catalog;
pub use catalog::{Catalog, Read};
mod aggregate;
mod upcast;
pub use aggregate::{
    Aggregate, AggregateKind, AnyAggregate, AnyCommand, AnyError, Decision, Encoded, Kind, Loaded,
    Refusal,
};
mod reactor;
pub use reactor::{
    AnyReactor, Effect, Execution, OnRejected, Reacting, Reaction, Reactor, ReactorFn, reactor,
};
mod projection;
pub use projection::{
    AnyProjection, BATCH_ROWS_MAX, FIND_ROWS_MAX, Projecting, Projection, ReadRecord, RowSet, View,
};
mod message;
pub use message::{Headers, Lane, Message};
pub mod chain;
pub use chain::{Class, Lasts, Link, Start};
pub mod inbox;
pub use inbox::{Advance, Begin, InboxId, InboxRow, Mark, Seen, Trying, WINDOW_MAX};
pub mod partition;
pub use partition::{AHEAD_MAX, Job, Memory, Partition, Polled};
mod lease;
pub use lease::{Holder, Lease, Role, Watch};
mod relay;
pub use relay::{LastsOf, Offer, Overtaken, RelayRun, may_publish};
pub mod parking;
pub use parking::{FailureNote, InvalidParkedId, Parked, ParkedId, ParkedState, Room};
pub mod commit;
pub use commit::{
    AcceptedLoss, Answered, Append, AuditEntry, Audited, CommandInput, Commit, CommitError,
    Committed, Condition, Disposition, Input, LogInput, Loss, MessageInput, OperatorAction,
    OperatorInput, Owned, ParkedInput, PassedOffsets, RelayInput, RetiredSource, Retried,
    StreamKey, Timer, TimerInput, TimerWrite, VoidInput,
};
pub mod store;
pub use store::{
    EpochSpan, Layered, LogFilter, LogPage, PAGE_BYTES_MAX, ParkedCount, ParkedFilter, PinnedTopic,
    ProjectionClaim, ProjectionState, Prune, RelayClaim, Signal, Snapshot, Store,
    StoreCapabilities, StoreIdentity, StoreLayer, Stores, StreamPage, StreamSummary,
};
pub mod broker;
pub use broker::{
    Broker, BrokerCapabilities, Consumed, Consumer, GroupMember, Outgoing, Producer, Report,
    Subscription, TopicPartition, TopicSpec, Watermarks,
};
pub mod groups;
mod token;
pub mod wire;
pub use token::{InvalidToken, TOKEN_BYTES_MAX, TOKEN_WRITES_MAX, Token, TopicWrite};
pub mod views;
pub use views::{
    Comparison, Cursor, Field, FieldKind, Operator, OutsideViews, PAGE_NUMBER_MAX, PAGE_ROWS_MAX,
    Page, Query, Row, Rows, SqlValue, Value, ViewDefinition, ViewRef, ViewWrite, Views,
    ViewsCapabilities, ViewsEngine, WORDS_BYTES_MAX, WithViews,
};

#[doc(hidden)]
pub mod __private;
