//! What Kafka's client library is told, for each kind of client, and why.

use factum_core::{Error, Subscription};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::{Compression, GroupProtocol, KafkaOptions, Mechanism, options::MESSAGE_BYTES_MAX};

/// What a message may have in its batch beside key, value and headers' bytes: lengths, and the batch's own head.
pub(crate) const OVERHEAD_BYTES: usize = 64 * 1024;

/// How many messages of a partition are fetched ahead at most. Each costs some hundred bytes besides its own.
const PREFETCH_MESSAGES: usize = 5_000;

/// The least that is fetched ahead of a partition, however many there are.
const PREFETCH_BYTES_MIN: usize = 64 * 1024;

/// How many heartbeats fit into a session: one may be lost, and a rebalance is heard of soon.
const HEARTBEATS: u32 = 6;

/// Settings that correctness rests on: no user may set them otherwise.
const OURS: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "max.poll.interval.ms",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "retries",
    "message.send.max.retries",
    "session.timeout.ms",
    "transactional.id",
];

/// Refuses options that can't work, before anything is connected to.
pub(crate) fn verify(options: &KafkaOptions) -> Result<(), Error> {
    if options.servers.is_empty() {
        return Err(Error::fatal(
            "no broker is named: give one at least, as `localhost:9092`",
        ));
    }
    if let Some(setting) = options
        .settings
        .keys()
        .find(|name| OURS.contains(&name.as_str()))
    {
        return Err(Error::fatal(format!(
            "the setting `{setting}` is not free: what Factum promises rests on it; leave it out"
        )));
    }
    if options.message_bytes_max < MESSAGE_BYTES_MAX {
        return Err(Error::fatal(format!(
            "`message_bytes_max` is {}: an event that a store has taken may need {MESSAGE_BYTES_MAX}, and one that is never \
             published holds up all behind it; state that or more",
            options.message_bytes_max
        )));
    }
    let hashes = options
        .sasl
        .as_ref()
        .is_some_and(|sasl| sasl.mechanism != Mechanism::Plain);
    if (options.tls.is_some() || hashes) && !cfg!(feature = "tls") {
        return Err(Error::fatal(
            "TLS and SCRAM are not built in: build factum-kafka with the feature `tls`",
        ));
    }
    if options.compression == Compression::Zstd && !cfg!(feature = "zstd") {
        return Err(Error::fatal(
            "zstd is not built in: build factum-kafka with the feature `zstd`",
        ));
    }
    Ok(())
}

fn common(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Info);
    config.set("bootstrap.servers", options.servers.join(","));
    config.set("client.id", &options.client);
    config.set("message.max.bytes", wire_bytes_max(options).to_string());
    // Every broker that a name stands for is tried, and its name is looked up anew when it has moved.
    config.set("client.dns.lookup", "use_all_dns_ips");
    config.set("reconnect.backoff.max.ms", "1000");
    config.set("topic.metadata.refresh.interval.ms", "10000");
    let security = match (&options.tls, &options.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", security);
    if let Some(tls) = &options.tls {
        if let Some(authorities) = &tls.authorities {
            config.set("ssl.ca.location", authorities.to_string_lossy());
        }
        if let Some((certificate, key)) = &tls.certificate {
            config.set("ssl.certificate.location", certificate.to_string_lossy());
            config.set("ssl.key.location", key.to_string_lossy());
        }
        let identified = if tls.any_name { "none" } else { "https" };
        config.set("ssl.endpoint.identification.algorithm", identified);
    }
    if let Some(sasl) = &options.sasl {
        let mechanism = match sasl.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        config.set("sasl.mechanism", mechanism);
        config.set("sasl.username", &sasl.user);
        config.set("sasl.password", &sasl.password);
    }
    config
}

/// How many bytes a batch of one message may have.
pub(crate) fn wire_bytes_max(options: &KafkaOptions) -> usize {
    options.message_bytes_max + OVERHEAD_BYTES
}

/// The user's own settings go last, so that they win where they may.
fn finished(mut config: ClientConfig, options: &KafkaOptions, of: Kind) -> ClientConfig {
    for (name, value) in &options.settings {
        // Each kind of client refuses what only the other knows.
        let theirs = if of == Kind::Producer {
            CONSUMERS
        } else {
            PRODUCERS
        };
        if !theirs.iter().any(|prefix| name.starts_with(prefix)) {
            config.set(name, value);
        }
    }
    config
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Producer,
    Consumer,
}

/// Settings that only consumers know begin so.
const CONSUMERS: &[&str] = &[
    "fetch.",
    "max.partition.fetch",
    "queued.",
    "isolation.",
    "check.crcs",
    "group.",
    "heartbeat.",
];

/// Settings that only producers know begin so.
const PRODUCERS: &[&str] = &[
    "batch.",
    "compression.",
    "linger.",
    "partitioner",
    "queue.buffering.",
    "request.timeout",
    "sticky.",
];

/// A client that asks: for topics, offsets and groups.
pub(crate) fn desk(options: &KafkaOptions) -> ClientConfig {
    finished(common(options), options, Kind::Consumer)
}

/// A client that administers. The library offers it no place to tell of what goes wrong; the desk's client does.
pub(crate) fn admin(options: &KafkaOptions) -> ClientConfig {
    let mut config = common(options);
    config.set_log_level(RDKafkaLogLevel::Emerg);
    finished(config, options, Kind::Producer)
}

/// A client that asks in the name of a group, and is no member of it.
pub(crate) fn outsider(options: &KafkaOptions, group: &str) -> ClientConfig {
    let mut config = common(options);
    config.set("group.id", group);
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error");
    config.set("enable.partition.eof", "true");
    // What is read is there. A fetch that waits for more would hold up the next partition.
    config.set("fetch.wait.max.ms", "10");
    config.set("fetch.queue.backoff.ms", "5");
    finished(config, options, Kind::Consumer)
}

/// A producer run.
pub(crate) fn producer(options: &KafkaOptions) -> ClientConfig {
    let mut config = common(options);
    // Order, and nothing twice, through retries: the broker counts what it gets of each run and partition.
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    // Nothing behind a message that the broker refused.
    config.set("enable.gapless.guarantee", "true");
    // A message that expired alone would leave a gap. We look at the oldest ourselves, and give up all at once.
    config.set("message.timeout.ms", "0");
    // Batches come about by themselves while the one before is on the way.
    config.set("linger.ms", "0");
    // Our own bounds are below: the library's must never be met.
    let messages = options.in_flight_messages_max.saturating_mul(2);
    config.set(
        "queue.buffering.max.messages",
        messages.max(100_000).to_string(),
    );
    config.set("queue.buffering.max.kbytes", "2097151");
    let compression = match options.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    config.set("compression.type", compression);
    finished(config, options, Kind::Producer)
}

/// A member of a group whose topics have `partitions` partitions.
pub(crate) fn member(
    options: &KafkaOptions,
    subscription: &Subscription,
    partitions: usize,
) -> ClientConfig {
    let mut config = common(options);
    config.set("client.id", &subscription.member);
    config.set("group.id", subscription.group.as_str());
    if let Some(instance) = &options.instance {
        config.set("group.instance.id", instance);
    }
    // The store knows where to start, and how far the group has come.
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error");
    let session = subscription.session.as_millis().to_string();
    // Heartbeats go on by themselves: only this tells a member that hangs from one that works.
    config.set("max.poll.interval.ms", &session);
    match options.group_protocol {
        GroupProtocol::Classic => {
            config.set("group.protocol", "classic");
            config.set("partition.assignment.strategy", "cooperative-sticky");
            let heartbeat = (subscription.session / HEARTBEATS).as_millis().max(1);
            config.set("session.timeout.ms", &session);
            config.set("heartbeat.interval.ms", heartbeat.to_string());
        }
        GroupProtocol::Consumer => {
            config.set("group.protocol", "consumer");
        }
    }
    // Each partition has a queue of its own, and these bounds hold for each queue.
    let ahead = options.prefetch_bytes_max / partitions.max(1);
    let ahead = ahead.max(PREFETCH_BYTES_MIN);
    config.set("queued.min.messages", PREFETCH_MESSAGES.to_string());
    config.set("queued.max.messages.kbytes", (ahead / 1024).to_string());
    config.set(
        "fetch.message.max.bytes",
        ahead.min(1024 * 1024).to_string(),
    );
    let fetch = wire_bytes_max(options).max(options.prefetch_bytes_max.min(4 * 1024 * 1024));
    config.set("fetch.max.bytes", fetch.to_string());
    // How long a partition waits whose queue was full. The default of a second would be most of the time.
    config.set("fetch.queue.backoff.ms", "5");
    finished(config, options, Kind::Consumer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_correctness_rests_on_can_not_be_set() {
        for setting in OURS {
            let options = KafkaOptions::new(["a:1"]).setting(*setting, "1");
            let error = verify(&options).unwrap_err();
            assert!(
                error.is_fatal() && error.to_string().contains(setting),
                "{error}"
            );
        }
        assert!(verify(&KafkaOptions::new(["a:1"]).setting("client.rack", "r")).is_ok());
        assert!(verify(&KafkaOptions::new(Vec::<String>::new())).is_err());
    }

    #[test]
    fn no_event_that_a_store_takes_is_too_large_to_be_published() {
        const { assert!(factum_core::RECORD_BYTES_MAX < MESSAGE_BYTES_MAX) };
        let of = |bytes| KafkaOptions::new(["a:1"]).message_bytes_max(bytes);
        assert!(verify(&of(MESSAGE_BYTES_MAX)).is_ok());
        let error = verify(&of(MESSAGE_BYTES_MAX - 1)).unwrap_err();
        assert!(
            error.is_fatal() && error.to_string().contains("1048576"),
            "{error}"
        );
    }

    #[test]
    fn what_is_fetched_ahead_is_shared_out() {
        let subscription = Subscription {
            group: factum_core::Group::of("g"),
            topics: Vec::new(),
            member: "m".to_owned(),
            session: std::time::Duration::from_secs(6),
            batch_max: 1,
        };
        let options = KafkaOptions::new(["a:1"]).prefetch_bytes_max(8 * 1024 * 1024);
        for (partitions, kbytes) in [(0, "8192"), (4, "2048"), (100_000, "64")] {
            let config = member(&options, &subscription, partitions);
            assert_eq!(config.get("queued.max.messages.kbytes"), Some(kbytes));
        }
    }
}
