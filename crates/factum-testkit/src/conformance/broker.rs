//! The contract of the broker port as tests.
//!
//! Each case states a behaviour that [`factum_core::broker`] asks for, and uses nothing but the port. It makes
//! topics and groups of its own, so that many cases can share one broker, and waits for what should happen
//! instead of for a time. Times are whole milliseconds, since Kafka keeps no finer ones.

#![expect(
    clippy::unwrap_used,
    reason = "the cases are tests: what fails here is the adapter"
)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use factum_core::{Broker, Timestamp, TopicPartition};

pub mod consuming;
pub mod groups;
pub mod keeping;
pub mod load;
pub mod publishing;
pub mod topics;
pub(crate) mod world;

/// How to reach a broker of the adapter that is tested. Each case gets a harness of its own.
#[async_trait]
pub trait BrokerHarness: Send + Sync {
    /// Connects to the broker. Called once.
    async fn open(&self) -> Arc<dyn Broker>;

    /// Closes `broker` and connects again, after a restart if the harness can do one.
    async fn reopen(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker>;

    /// Lets time pass for the broker: moves its clock, or waits.
    async fn pass(&self, duration: Duration);

    /// The present time, as the broker sees it.
    fn now(&self) -> Timestamp;

    /// Whether [`Broker::sweep`] has applied retention when it returns; not so where the broker does that by itself.
    fn sweeps(&self) -> bool {
        false
    }

    /// Takes away all that `partition` holds, as retention does, where the broker applies retention by itself; `false`
    /// where [`Broker::sweep`] does.
    async fn expire(&self, partition: &TopicPartition) -> bool {
        let _ = partition;
        false
    }

    /// After how long without a call a member counts as dead: as short as the broker allows.
    fn session(&self) -> Duration {
        Duration::from_secs(6)
    }

    /// What sets the topics and groups of this run apart from those of runs before, on a broker that outlives them.
    fn run(&self) -> String {
        "run".to_owned()
    }

    /// Why the cases can't run here, such as that there is no broker; `None` when they can.
    async fn skip(&self) -> Option<String> {
        None
    }
}

/// Makes one test for each case of the broker suite. The harness is an expression, evaluated for each test.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use factum_core::{Broker, Timestamp};
/// # use factum_testkit::{MemoryTopicsDisk, TestEnv, conformance::broker::BrokerHarness};
/// struct Memory(MemoryTopicsDisk, TestEnv);
///
/// #[async_trait::async_trait]
/// impl BrokerHarness for Memory {
///     async fn open(&self) -> Arc<dyn Broker> {
///         Arc::new(self.0.open(self.1.env()))
///     }
///     async fn reopen(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
///         drop(broker);
///         self.open().await
///     }
///     async fn pass(&self, duration: Duration) {
///         self.1.advance(duration);
///     }
///     fn now(&self) -> Timestamp {
///         self.1.clock().now()
///     }
/// }
///
/// mod memory {
///     # use super::*;
///     factum_testkit::broker_suite!(super::Memory(MemoryTopicsDisk::new(), TestEnv::seeded(1)));
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! broker_suite {
    ($harness:expr) => {
        $crate::broker_suite! { @modules $harness,
            topics: [
                a_topic_is_made_once_and_found,
                a_topic_with_another_partition_count_is_refused,
                a_new_topic_is_empty,
                unknown_topics_and_partitions_are_errors,
            ],
            publishing: [
                messages_come_back_byte_for_byte,
                every_message_is_reported_once_with_its_offset,
                offsets_grow_in_the_order_of_sending,
                messages_of_one_key_share_a_partition_and_keep_their_order,
                no_reports_come_when_nothing_is_on_the_way,
                a_report_that_was_not_taken_comes_with_the_next_call,
                a_message_for_an_unknown_partition_kills_its_producer,
                a_message_that_is_too_large_is_poison,
                a_bad_message_fails_itself_and_those_behind_it,
                a_cancelled_send_breaks_no_order,
                sending_waits_for_room_and_not_for_reports_to_be_taken,
                producers_side_by_side_keep_an_order_each,
                a_read_is_bounded_and_goes_on,
            ],
            consuming: [
                a_member_reads_from_where_it_seeks,
                nothing_is_delivered_before_the_first_seek,
                the_end_is_a_place_to_start,
                seeking_back_delivers_again,
                seeking_out_of_range_is_fatal,
                a_paused_partition_delivers_nothing_and_stays_owned,
                a_batch_has_a_bound,
                no_partition_starves_behind_a_full_one,
                a_message_wakes_a_member_that_waits,
                a_call_that_was_cancelled_loses_nothing,
                what_is_not_assigned_can_not_be_sought,
                offsets_of_what_is_not_held_are_dropped,
                lag_is_the_end_without_what_was_committed,
            ],
            groups: [
                a_member_alone_owns_everything,
                two_groups_are_independent,
                partitions_are_balanced_and_kept,
                a_partition_moves_only_when_its_owner_has_finished,
                a_member_that_leaves_hands_over_at_once,
                a_crashed_member_is_noticed_after_its_session,
                a_member_that_calls_is_alive,
                an_expelled_member_is_told_what_it_lost_and_comes_back,
                a_late_word_of_an_old_owner_is_not_kept,
                a_topic_that_appears_later_is_assigned,
                members_in_excess_wait_in_reserve,
            ],
            load: [
                nothing_is_lost_or_handled_twice_while_members_come_and_go,
                a_crash_under_load_loses_nothing,
            ],
            keeping: [
                a_restart_keeps_messages_and_committed_offsets,
                old_messages_go,
                retention_can_be_stated_anew,
                nobody_need_write_to_a_topic_for_its_old_messages_to_go,
                messages_beyond_the_bytes_go,
                a_member_that_retention_overtook_is_told,
                a_partition_that_retention_overtook_takes_nothing_from_the_others,
            ],
        }
    };
    (@modules $harness:expr, $($module:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        $($crate::broker_suite! { @cases $harness, $module, [$($case),*] })*
    };
    (@cases $harness:expr, $module:ident, [$($case:ident),*]) => {
        mod $module {
            #[expect(unused_imports, reason = "the harness may be written with what is in scope here")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::conformance::run(async {
                        let harness = $harness;
                        match $crate::conformance::broker::BrokerHarness::skip(&harness).await {
                            Some(reason) => $crate::engines::skipped(&reason),
                            None => $crate::conformance::broker::$module::$case(&harness).await,
                        }
                    });
                }
            )*
        }
    };
}
