//! Consumer groups: how far each has come in each partition, who works for it, and what is parked.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use factum::{
    GroupMember, InboxId, InboxRow, Incident, ParkedCount, ParkedState, RunningService,
    TopicPartition,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Admin,
    web::{FromQuery, Problem},
};

/// All groups.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConsumerList {
    groups: Vec<GroupView>,
}

/// A consumer group.
#[derive(Debug, Serialize, JsonSchema)]
struct GroupView {
    service: String,
    group: String,
    /// The messages of all partitions that are not finished, nor parked.
    lag: u64,
    /// How many messages are parked, by state.
    parked: ParkedNumbers,
    /// The members, as the broker knows them.
    members: Vec<MemberView>,
    /// Why the broker can't say who the members are: then none are listed, whoever there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    members_unknown: Option<String>,
    /// The partitions that it has begun to read.
    partitions: Vec<PartitionView>,
    /// Sources whose messages it can't take, because one before them is missing, as far as this process owns the
    /// partitions. A person has to end them: rewind the relay of the source, or accept the loss.
    incidents: Vec<IncidentView>,
}

/// A source whose messages a group can't take, because one before them is missing.
#[derive(Debug, Serialize, JsonSchema)]
struct IncidentView {
    topic: String,
    partition: u32,
    /// The id of the store whose messages are not taken.
    source: String,
    /// The service that has this store, if it runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_service: Option<String>,
    /// The last place that was taken from it: rewind its relay to this position.
    last: String,
    /// The record that the first message which was left out comes behind: it, or one before it, is missing.
    expected: String,
    /// The first message that was left out.
    seen: String,
    /// Its offset.
    offset: u64,
    /// The last message that was left out.
    latest: String,
    /// How many were left out, as far as this process has seen.
    messages: u64,
    since: String,
}

fn incident(admin: &Admin, incident: &Incident) -> IncidentView {
    let mut services = admin.running().services();
    let source = services.find(|service| service.store().identity().id == incident.source);
    IncidentView {
        topic: incident.inbox.topic.to_string(),
        partition: incident.inbox.partition,
        source: incident.source.to_string(),
        source_service: source.map(|service| service.name().to_string()),
        last: incident.last.to_string(),
        expected: incident.expected.to_string(),
        seen: incident.seen.to_string(),
        offset: incident.offset,
        latest: incident.latest.to_string(),
        messages: incident.messages,
        since: incident.since.to_string(),
    }
}

/// How many messages are parked.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct ParkedNumbers {
    /// To be tried again when due.
    pub(crate) retrying: u64,
    /// Until a person redrives or discards them.
    pub(crate) dead: u64,
    /// Behind one of these.
    pub(crate) waiting: u64,
    /// Given up by a person.
    pub(crate) discarded: u64,
}

impl ParkedNumbers {
    fn of<'a>(counts: impl Iterator<Item = &'a ParkedCount>) -> Self {
        let mut numbers = Self::default();
        for count in counts {
            *match count.state {
                ParkedState::Retrying => &mut numbers.retrying,
                ParkedState::Dead => &mut numbers.dead,
                ParkedState::Waiting => &mut numbers.waiting,
                ParkedState::Discarded => &mut numbers.discarded,
            } += count.count;
        }
        numbers
    }
}

/// A member of a group.
#[derive(Debug, Serialize, JsonSchema)]
struct MemberView {
    member: String,
    /// What it is assigned: `<topic>/<partition>`.
    partitions: Vec<String>,
}

/// A group in a partition.
#[derive(Debug, Serialize, JsonSchema)]
struct PartitionView {
    topic: String,
    partition: u32,
    /// The oldest offset that the broker keeps.
    first: u64,
    /// All offsets below are finished or parked.
    low: u64,
    /// The offset that the next message gets.
    end: u64,
    /// The messages that are not finished, nor parked.
    lag: u64,
    /// The member that it is assigned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Whether its last owner left in good order; false while it has one.
    clean: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Only of this service.
    service: Option<String>,
}

pub(crate) async fn list(
    State(admin): State<Admin>,
    FromQuery(asked): FromQuery<Asked>,
) -> Result<Json<ConsumerList>, Problem> {
    let mut groups = Vec::new();
    for service in admin.services(asked.service.as_deref())? {
        let counts = service.store().parked_counts().await?;
        let incidents = service.operator().incidents();
        let mut inboxes: BTreeMap<_, Vec<_>> = service
            .groups()
            .map(|group| (group.clone(), Vec::new()))
            .collect();
        for (id, row) in service.store().inboxes().await? {
            inboxes.entry(id.group.clone()).or_default().push((id, row));
        }
        for (group, inboxes) in inboxes {
            // All else is told whether the broker can say this or not.
            let members = admin.running().broker().members(&group).await;
            let (members, unknown) = match members {
                Ok(members) => (members, None),
                Err(error) => (Vec::new(), Some(format!("{error:#}"))),
            };
            let mut partitions = Vec::new();
            for (id, row) in inboxes {
                partitions.push(partition(&admin, &id, &row, &members).await?);
            }
            let mut view = view(service, group.as_str(), &counts, &members, partitions);
            view.members_unknown = unknown;
            let its = incidents.iter().filter(|one| one.inbox.group == group);
            view.incidents = its.map(|one| incident(&admin, one)).collect();
            groups.push(view);
        }
    }
    Ok(Json(ConsumerList { groups }))
}

fn view(
    service: &RunningService,
    group: &str,
    counts: &[ParkedCount],
    members: &[GroupMember],
    partitions: Vec<PartitionView>,
) -> GroupView {
    let member = |member: &GroupMember| MemberView {
        member: member.member.clone(),
        partitions: member.partitions.iter().map(ToString::to_string).collect(),
    };
    GroupView {
        service: service.name().to_string(),
        group: group.to_owned(),
        lag: partitions.iter().map(|partition| partition.lag).sum(),
        parked: ParkedNumbers::of(counts.iter().filter(|count| count.group.as_str() == group)),
        members: members.iter().map(member).collect(),
        members_unknown: None,
        partitions,
        incidents: Vec::new(),
    }
}

async fn partition(
    admin: &Admin,
    id: &InboxId,
    row: &InboxRow,
    members: &[GroupMember],
) -> Result<PartitionView, Problem> {
    let place = TopicPartition::new(id.topic.clone(), id.partition);
    let marks = admin.running().broker().watermarks(&place).await?;
    let finished_above = row.done.iter().count() as u64;
    let owner = members
        .iter()
        .find(|member| member.partitions.contains(&place));
    Ok(PartitionView {
        topic: id.topic.to_string(),
        partition: id.partition,
        first: marks.first,
        low: row.low,
        end: marks.end,
        lag: marks
            .end
            .saturating_sub(row.low)
            .saturating_sub(finished_above),
        owner: owner.map(|member| member.member.clone()),
        clean: row.clean,
    })
}
