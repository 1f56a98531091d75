//! Topics: made as they should be, or verified.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use factum_core::{Error, Topic, TopicSpec};
use rdkafka::{
    admin::{
        AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    types::RDKafkaErrorCode,
};
use tokio::time::{sleep, timeout};

use crate::{
    config,
    desk::Desk,
    error::{self, Doing},
    verify::{self, Demands, Settings, Shape},
};

/// How often a topic that was just made is looked at until all its partitions can be written to.
const LOOK: Duration = Duration::from_millis(20);

/// How many topics are asked for at a time.
const DESCRIBED_MAX: usize = 200;

/// Makes the topic, or verifies it, and gives it its retention.
pub(crate) async fn ensure(desk: &Arc<Desk>, spec: &TopicSpec) -> Result<(), Error> {
    let TopicSpec {
        topic, partitions, ..
    } = spec;
    if *partitions == 0 {
        return Err(Error::fatal(format!(
            "topic `{topic}` can't have 0 partitions: give it 1 at least"
        )));
    }
    let (shape, is_ours, mut described) = if let Some(shape) = shape(desk, topic).await? {
        (shape, false, describe_one(desk, topic).await?)
    } else {
        let is_ours = make(desk, spec).await?;
        let ready = timeout(desk.options.patience, until_ready(desk, topic)).await;
        let (shape, described) = ready.map_err(|_| {
            Error::transient(format!(
                "topic `{topic}` was made, and nobody takes messages for it yet"
            ))
        })??;
        (shape, is_ours, described)
    };
    let mut wanted: Vec<(&str, String)> = verify::retention(spec).into();
    if is_ours && shape.copies > 1 {
        // With fewer in step, what is acknowledged could be lost with one broker.
        wanted.push(("min.insync.replicas", "2".to_owned()));
    }
    wanted.retain(|(name, value)| described.all.get(*name) != Some(value));
    let changed = wanted.iter();
    let changed = changed.map(|(name, value)| ((*name).to_owned(), value.clone()));
    described.all.extend(changed);
    let demands = Demands {
        batch_bytes: config::wire_bytes_max(&desk.options),
        accept_weak: desk.options.accept_weak_topics,
    };
    if let Some(fault) = verify::fault(spec, &shape, &described.all, demands) {
        return Err(Error::fatal(fault));
    }
    if !wanted.is_empty() {
        alter(desk, topic, &described.own, &wanted).await?;
    }
    desk.remember(topic, *partitions);
    Ok(())
}

/// All topics with what they keep.
pub(crate) async fn all(desk: &Arc<Desk>) -> Result<Vec<TopicSpec>, Error> {
    let topics = desk.ask(Desk::all_topics).await?;
    let mut specs = Vec::with_capacity(topics.len());
    for chunk in topics.chunks(DESCRIBED_MAX) {
        let names: Vec<_> = chunk.iter().map(|(topic, _)| topic.clone()).collect();
        let described = describe(desk, &names).await?;
        for ((topic, partitions), described) in chunk.iter().zip(described) {
            let (retention, retention_bytes) = verify::kept(&described.all);
            specs.push(TopicSpec {
                retention,
                retention_bytes,
                ..TopicSpec::new(topic.clone(), *partitions)
            });
        }
    }
    Ok(specs)
}

async fn shape(desk: &Arc<Desk>, topic: &Topic) -> Result<Option<Shape>, Error> {
    let topic = topic.clone();
    desk.ask(move |desk| desk.shape(&topic)).await
}

/// Waits until each partition of a topic that was just made has a leader, and all brokers know of it.
async fn until_ready(desk: &Arc<Desk>, topic: &Topic) -> Result<(Shape, Described), Error> {
    loop {
        if let Some(shape) = shape(desk, topic).await?
            && shape.led
            && shape.partitions > 0
        {
            match describe_one(desk, topic).await {
                Err(error) if error.is_transient() => {}
                described => return Ok((shape, described?)),
            }
        }
        sleep(LOOK).await;
    }
}

fn admin_options(desk: &Desk) -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(desk.options.patience))
        .operation_timeout(Some(desk.options.patience))
}

/// Makes the topic; `false` when somebody else was first.
async fn make(desk: &Desk, spec: &TopicSpec) -> Result<bool, Error> {
    let what = format!("make topic `{}`", spec.topic);
    let partitions = i32::try_from(spec.partitions)
        .map_err(|_| Error::fatal(format!("failed to {what}: it has too many partitions")))?;
    let copies = desk.options.replication.map_or(-1, i32::from);
    let most = config::wire_bytes_max(&desk.options).to_string();
    let retention = verify::retention(spec);
    let topic = NewTopic::new(
        spec.topic.as_str(),
        partitions,
        TopicReplication::Fixed(copies),
    );
    let topic = retention
        .iter()
        .fold(topic, |topic, (name, value)| topic.set(name, value))
        .set("cleanup.policy", "delete")
        .set("max.message.bytes", &most);
    let made = desk.admin().create_topics([&topic], &admin_options(desk));
    let made = made.await.doing(&what)?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(error::sorted_code(&what, code)),
        Some(Ok(_)) | None => Ok(true),
    }
}

/// The settings of a topic.
#[derive(Default)]
struct Described {
    /// All of them, as they hold.
    all: Settings,
    /// Those that were set for this topic.
    own: Settings,
}

impl From<ConfigResource> for Described {
    fn from(resource: ConfigResource) -> Self {
        let mut described = Self::default();
        for entry in resource.entries {
            let Some(value) = entry.value else { continue };
            if entry.source == ConfigSource::DynamicTopic {
                described.own.insert(entry.name.clone(), value.clone());
            }
            described.all.insert(entry.name, value);
        }
        described
    }
}

async fn describe_one(desk: &Desk, topic: &Topic) -> Result<Described, Error> {
    let described = describe(desk, std::slice::from_ref(topic)).await?;
    Ok(described.into_iter().next().unwrap_or_default())
}

/// The settings of these topics, in their order.
async fn describe(desk: &Desk, topics: &[Topic]) -> Result<Vec<Described>, Error> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let what = match topics {
        [topic] => format!("look at the settings of topic `{topic}`"),
        _ => "look at the settings of the topics".to_owned(),
    };
    let asked: Vec<_> = topics
        .iter()
        .map(|topic| ResourceSpecifier::Topic(topic.as_str()))
        .collect();
    let answers = desk.admin().describe_configs(&asked, &admin_options(desk));
    let mut by_name = BTreeMap::new();
    for answer in answers.await.doing(&what)? {
        let resource = answer.map_err(|code| error::sorted_code(&what, code))?;
        if let rdkafka::admin::OwnedResourceSpecifier::Topic(name) = &resource.specifier {
            by_name.insert(name.clone(), Described::from(resource));
        }
    }
    let described = topics.iter();
    let described = described.map(|topic| by_name.remove(topic.as_str()).unwrap_or_default());
    Ok(described.collect())
}

/// Changes settings of a topic. The request that this client knows sets all of a topic's own settings, so that the others
/// have to be told again.
async fn alter(
    desk: &Desk,
    topic: &Topic,
    own: &Settings,
    wanted: &[(&str, String)],
) -> Result<(), Error> {
    let what = format!("change the settings of topic `{topic}`");
    let all = own
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let wanted = wanted.iter().map(|(name, value)| (*name, value.as_str()));
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic.as_str()));
    let change = all
        .chain(wanted)
        .fold(change, |change, (name, value)| change.set(name, value));
    let altered = desk.admin().alter_configs([&change], &admin_options(desk));
    match altered.await.doing(&what)?.into_iter().next() {
        Some(Err((_, code))) => Err(error::sorted_code(&what, code)),
        Some(Ok(_)) | None => Ok(()),
    }
}
