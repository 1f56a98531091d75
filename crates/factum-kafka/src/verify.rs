//! What is wrong with a topic that is there already, in words: plain rules over its settings.

use std::{collections::BTreeMap, time::Duration};

use factum_core::TopicSpec;

/// A topic as the brokers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// How many copies the partition has that has the fewest.
    pub(crate) copies: usize,
    /// Whether each partition has somebody who takes messages.
    pub(crate) led: bool,
}

/// The settings of a topic by their names.
pub(crate) type Settings = BTreeMap<String, String>;

/// What must hold for a topic to keep what was acknowledged, and to take all that we send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// How many bytes a batch of one message may have.
    pub(crate) batch_bytes: usize,
    /// Whether a topic may lose what it acknowledged.
    pub(crate) accept_weak: bool,
}

/// Why the topic can't be used as `spec` wants it, all of it, so that a person mends it in one go.
pub(crate) fn fault(
    spec: &TopicSpec,
    shape: &Shape,
    settings: &Settings,
    demands: Demands,
) -> Option<String> {
    let TopicSpec {
        topic, partitions, ..
    } = spec;
    let mut faults = Vec::new();
    if shape.partitions != *partitions {
        faults.push(format!(
            "it has {} partitions and not {partitions}: the count can't change while messages are kept by key",
            shape.partitions
        ));
    }
    if setting(settings, "cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        faults.push(
            "it is compacted, and would lose all but the last event of a key: set `cleanup.policy=delete`"
                .to_owned(),
        );
    }
    if let Some(most) = number(settings, "max.message.bytes")
        && most < demands.batch_bytes as u64
    {
        faults.push(format!(
            "it takes messages of {most} bytes at most: set `max.message.bytes={}`",
            demands.batch_bytes
        ));
    }
    if let Some(in_sync) = number(settings, "min.insync.replicas") {
        let copies = shape.copies;
        if in_sync > copies as u64 {
            faults.push(format!(
                "it has {copies} copies and `min.insync.replicas={in_sync}`, so that it takes nothing: set \
                 `min.insync.replicas={}`",
                copies.clamp(1, 2)
            ));
        } else if copies > 1 && in_sync < 2 && !demands.accept_weak {
            faults.push(format!(
                "it has {copies} copies and `min.insync.replicas={in_sync}`, so that one broker's failure can take what \
                 was acknowledged: set `min.insync.replicas=2`, or accept that (`accept_weak_topics`)"
            ));
        }
    }
    (!faults.is_empty()).then(|| format!("topic `{topic}`: {}", faults.join("; and ")))
}

/// The settings that a topic must get so that it keeps messages as `spec` says.
pub(crate) fn retention(spec: &TopicSpec) -> [(&'static str, String); 2] {
    let millis = spec.retention.map(|kept| kept.as_millis().to_string());
    let bytes = spec.retention_bytes.map(|kept| kept.to_string());
    [
        ("retention.ms", millis.unwrap_or_else(|| "-1".to_owned())),
        ("retention.bytes", bytes.unwrap_or_else(|| "-1".to_owned())),
    ]
}

/// How long and how much the settings keep.
pub(crate) fn kept(settings: &Settings) -> (Option<Duration>, Option<u64>) {
    (
        number(settings, "retention.ms").map(Duration::from_millis),
        number(settings, "retention.bytes"),
    )
}

fn setting<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.get(name).map(String::as_str)
}

/// A number that is not -1, which stands for none.
fn number(settings: &Settings, name: &str) -> Option<u64> {
    setting(settings, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use factum_core::Topic;

    use super::*;

    const DEMANDS: Demands = Demands {
        batch_bytes: 1000,
        accept_weak: false,
    };

    fn said(partitions: u32, copies: usize, settings: &[(&str, &str)], demands: Demands) -> String {
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let shape = Shape {
            partitions,
            copies,
            led: true,
        };
        let spec = TopicSpec::new(Topic::of("orders"), 6);
        fault(&spec, &shape, &settings.collect(), demands).unwrap_or_default()
    }

    #[test]
    fn a_topic_as_it_should_be_has_no_faults() {
        let good = [
            ("cleanup.policy", "delete"),
            ("max.message.bytes", "1000"),
            ("min.insync.replicas", "2"),
        ];
        assert_eq!(said(6, 3, &good, DEMANDS), "");
        // A single broker has a single copy: whoever runs that knows it.
        assert_eq!(said(6, 1, &[("min.insync.replicas", "1")], DEMANDS), "");
    }

    #[test]
    fn each_fault_says_what_would_be_right() {
        for (partitions, copies, setting, right) in [
            (4, 3, ("cleanup.policy", "delete"), "4 partitions and not 6"),
            (
                6,
                3,
                ("cleanup.policy", "compact,delete"),
                "`cleanup.policy=delete`",
            ),
            (
                6,
                3,
                ("max.message.bytes", "999"),
                "`max.message.bytes=1000`",
            ),
            (
                6,
                3,
                ("min.insync.replicas", "1"),
                "`min.insync.replicas=2`",
            ),
            (
                6,
                1,
                ("min.insync.replicas", "2"),
                "`min.insync.replicas=1`",
            ),
            (
                6,
                2,
                ("min.insync.replicas", "3"),
                "`min.insync.replicas=2`",
            ),
        ] {
            let said = said(partitions, copies, &[setting], DEMANDS);
            assert!(said.contains("`orders`") && said.contains(right), "{said}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let bad = [("cleanup.policy", "compact"), ("max.message.bytes", "1")];
        let said = said(4, 1, &bad, DEMANDS);
        assert!(said.contains("partitions") && said.contains("compacted"));
        assert!(said.contains("max.message.bytes"), "{said}");
    }

    #[test]
    fn a_weak_topic_may_be_accepted() {
        let demands = Demands {
            accept_weak: true,
            ..DEMANDS
        };
        assert_eq!(said(6, 3, &[("min.insync.replicas", "1")], demands), "");
    }

    #[test]
    fn retention_is_written_and_read_back() {
        let mut spec = TopicSpec::new(Topic::of("orders"), 1);
        for (retention, bytes) in [(None, None), (Some(Duration::from_hours(1)), Some(7))] {
            (spec.retention, spec.retention_bytes) = (retention, bytes);
            let written = retention_settings(&spec);
            assert_eq!(kept(&written), (retention, bytes));
        }
    }

    fn retention_settings(spec: &TopicSpec) -> Settings {
        let written = retention(spec).into_iter();
        written
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
