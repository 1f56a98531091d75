//! Broken adapters against the suite: what a suite has never refused, it may not look at. Each is the memory store with
//! one fault, such as adapters really have; the case that is named after the behaviour has to fail, and for that reason.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use factum_core::{
    Answered, At, Commit, CommitError, Committed, Error, ExpectedVersion, InboxId, Input,
    LogFilter, LogPage, Parked, ParkedFilter, ParkedId, ParkedState, Prune, Store, Timestamp,
};
use factum_testkit::{
    Layered, StoreLayer,
    conformance::store::{
        StoreHarness, answers, epochs, log, operators, owners, parking, retries, standing,
        subscription, versions,
    },
};

use crate::store::{Memory, memory};

/// What is wrong with an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// It forgets what a commit stands on, as one that hands commits to a pool of connections would.
    StandsOnNothing,
    /// It answers a commit that writes nothing without looking at its conditions.
    ConfirmsAnyRejection,
    /// It doesn't compare versions.
    AnyVersion,
    /// Of two commits at a time one fails, whatever they write to, as under one lock for all that isn't waited for.
    OneAtATime,
    /// A page ends at the head that its reader saw, and not at its last record.
    GoesOnFromTheHead,
    /// It takes whoever writes for the owner.
    AnyFence,
    /// It looks for retries only at and above the watermark.
    ForgetsBelowTheWatermark,
    /// It keeps the place of what is parked, and reads the bytes from the topic.
    BytesFromTheTopic,
    /// It takes a cursor for a number.
    CursorsOfAnyEpoch,
    /// It counts the rows of a page, and not their bytes.
    PagesOfAnySize,
    /// It tells of an answer as long as its row is there.
    RemembersTooLong,
}

/// The memory store with a fault.
#[derive(Debug)]
struct Broken {
    below: Arc<dyn Store>,
    fault: Fault,
    busy: AtomicBool,
    pruned: Arc<AtomicBool>,
}

impl Broken {
    /// The commit as the fault has it.
    async fn changed(&self, mut commit: Commit) -> Result<Commit, Error> {
        match self.fault {
            Fault::StandsOnNothing => commit.stands_on.clear(),
            Fault::ConfirmsAnyRejection if commit.appends.is_empty() => commit.conditions.clear(),
            Fault::AnyVersion => {
                for append in &mut commit.appends {
                    append.expected = ExpectedVersion::Any;
                }
            }
            Fault::AnyFence => {
                let (inbox, fence) = match &mut commit.input {
                    Input::Message(input) => (&input.inbox, &mut input.fence),
                    Input::Void(input) => (&input.inbox, &mut input.fence),
                    Input::Parked(input) => (&input.id.inbox, &mut input.fence),
                    _ => return Ok(commit),
                };
                if let Some(row) = self.below.inbox(inbox).await? {
                    *fence = row.fence;
                }
            }
            _ => {}
        }
        Ok(commit)
    }

    async fn is_below(&self, inbox: &InboxId, offset: u64) -> Result<bool, Error> {
        let row = self.below.inbox(inbox).await?;
        Ok(row.is_some_and(|row| offset < row.low))
    }
}

#[async_trait::async_trait]
impl StoreLayer for Broken {
    fn below(&self) -> &Arc<dyn Store> {
        &self.below
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        if self.fault == Fault::OneAtATime {
            if self.busy.swap(true, Ordering::SeqCst) {
                let error = Error::conflict("could not serialize access");
                return Err(CommitError::Failed(error));
            }
            tokio::task::yield_now().await;
            let result = self.below.commit(commit).await;
            self.busy.store(false, Ordering::SeqCst);
            return result;
        }
        let commit = self.changed(commit).await.map_err(CommitError::Failed)?;
        self.below.commit(commit).await
    }

    async fn read_log(
        &self,
        after: At,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, Error> {
        let page = self.below.read_log(after, filter, limit).await;
        match (self.fault, page) {
            (Fault::PagesOfAnySize, Ok(mut page)) => {
                while page.next < page.head
                    && page.next.position.0 < after.position.0 + limit as u64
                {
                    let left = limit
                        - usize::try_from(page.next.position.0 - after.position.0)
                            .expect("a page is no longer than memory");
                    let more = self.below.read_log(page.next, filter, left).await?;
                    page.records.extend(more.records);
                    page.next = more.next;
                }
                Ok(page)
            }
            (Fault::GoesOnFromTheHead, Ok(mut page)) => {
                page.next = page.head;
                Ok(page)
            }
            (Fault::CursorsOfAnyEpoch, Err(_)) => {
                let (records, head) = (Vec::new(), self.below.head().await?);
                let next = after.min(head);
                Ok(LogPage {
                    records,
                    next,
                    head,
                })
            }
            (_, page) => page,
        }
    }

    async fn parked(&self, filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error> {
        let mut page = self.below.parked(filter, limit).await?;
        while self.fault == Fault::PagesOfAnySize
            && page.len() < limit
            && let Some(next) = filter.behind(&page, limit)
        {
            let more = self.below.parked(&next, limit - page.len()).await?;
            if more.is_empty() {
                break;
            }
            page.extend(more);
        }
        Ok(page)
    }

    async fn answered(
        &self,
        scope: &str,
        key: &str,
        at: Timestamp,
    ) -> Result<Option<(u64, Answered)>, Error> {
        let at = if self.fault == Fault::RemembersTooLong {
            Timestamp::UNIX_EPOCH
        } else {
            at
        };
        self.below.answered(scope, key, at).await
    }

    async fn parked_one(&self, id: &ParkedId) -> Result<Option<Parked>, Error> {
        let mut found = self.below.parked_one(id).await?;
        match (self.fault, &mut found) {
            (Fault::ForgetsBelowTheWatermark, Some(parked))
                if parked.state == ParkedState::Retrying
                    && self.is_below(&id.inbox, id.offset).await? =>
            {
                found = None;
            }
            (Fault::BytesFromTheTopic, Some(parked)) if self.pruned.load(Ordering::SeqCst) => {
                parked.message.value = None;
            }
            _ => {}
        }
        Ok(found)
    }

    async fn prune(&self, prune: Prune) -> Result<u64, Error> {
        self.pruned.store(true, Ordering::SeqCst);
        self.below.prune(prune).await
    }
}

/// Makes broken stores.
struct Harness {
    memory: Memory,
    fault: Fault,
    pruned: Arc<AtomicBool>,
}

impl Harness {
    fn with(fault: Fault) -> Self {
        Self {
            memory: memory(),
            fault,
            pruned: Arc::default(),
        }
    }

    fn broken(&self, below: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Layered(Broken {
            below,
            fault: self.fault,
            busy: AtomicBool::new(false),
            pruned: self.pruned.clone(),
        }))
    }
}

#[async_trait::async_trait]
impl StoreHarness for Harness {
    async fn create(&self) -> Arc<dyn Store> {
        self.broken(self.memory.create().await)
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.broken(self.memory.reopen(store).await)
    }

    async fn backup(&self) -> bool {
        self.memory.backup().await
    }

    async fn restore(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.broken(self.memory.restore(store).await)
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// For each case: the fault that it has to find, and what it says then.
macro_rules! planted {
    ($($module:ident::$case:ident: $fault:ident, $says:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                $module::$case(&Harness::with(Fault::None)).await;
                let broken = Harness::with(Fault::$fault);
                let case = tokio::spawn(async move { $module::$case(&broken).await });
                let panic = case.await.expect_err("the case finds the fault").into_panic();
                let said = message(&*panic);
                assert!(said.contains($says), "it fails for another reason: {said}");
            }
        )*
    };
}

planted! {
    standing::a_commit_fails_with_the_one_it_stands_on_though_its_versions_fit:
        StandsOnNothing, "it stands on a commit that failed";
    standing::a_rejection_decided_on_what_failed_is_not_confirmed:
        ConfirmsAnyRejection, "should have been refused";
    versions::of_many_writers_at_one_version_one_wins:
        AnyVersion, "at version 0";
    subscription::concurrent_appends_to_many_streams_keep_each_in_order:
        OneAtATime, "could not serialize access";
    subscription::a_subscription_sees_every_position_once_while_writers_race:
        GoesOnFromTheHead, "left == right";
    owners::an_inbox_belongs_to_its_last_owner:
        AnyFence, "should have been refused";
    operators::a_redrive_works_below_the_watermark:
        ForgetsBelowTheWatermark, "is not parked";
    retries::a_key_that_retries_for_three_hours_outlives_its_topics_retention:
        BytesFromTheTopic, "left == right";
    epochs::a_restored_backup_is_another_time_line:
        CursorsOfAnyEpoch, "it is of the lost time line";
    log::a_page_of_the_log_ends_when_it_has_enough_bytes:
        PagesOfAnySize, "bytes, and a further record";
    parking::a_page_of_parked_messages_ends_when_it_has_enough_bytes:
        PagesOfAnySize, "asked for 100";
    answers::an_expired_key_is_free_again:
        RemembersTooLong, "at 3600";
}
