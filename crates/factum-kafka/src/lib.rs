//! The broker on Apache Kafka, by librdkafka.
//!
//! The store says where to start and how far a group has come, and the chain in the headers tells what is missing or comes
//! twice: Kafka is asked for no more than what it is good at. It keeps partitions in order, and shares them out.
//! `docs/internals/kafka.md` tells which of its settings matter, and why they are what they are.
//!
//! ```
//! # async fn shown() -> Result<(), factum_core::Error> {
//! use factum_core::{Broker, Topic, TopicSpec};
//! use factum_kafka::{Kafka, KafkaOptions};
//!
//! let kafka = Kafka::connect(KafkaOptions::parse("kafka://localhost:9092")?).await?;
//! kafka.ensure_topic(&TopicSpec::new(Topic::of("orders"), 6)).await?;
//! # Ok(())
//! # }
//! ```

mod assignment;
mod config;
mod consumer;
mod desk;
mod error;
mod kafka;
mod log;
mod message;
mod options;
mod producer;
mod reader;
mod topics;
mod verify;

pub use kafka::Kafka;
pub use options::{Compression, GroupProtocol, KafkaOptions, Mechanism, Sasl, Tls};
