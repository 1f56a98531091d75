//! The contract of the store port as tests.
//!
//! Each case states a behaviour that [`factum_core::store`] asks for, and uses nothing but the port. What the
//! contract leaves open, such as the number of the first epoch, is left open here too.

use std::sync::Arc;

use async_trait::async_trait;
use factum_core::Store;

pub mod answers;
pub mod atomic;
pub mod epochs;
pub mod event_ids;
pub mod inbox;
pub mod keeping;
pub mod leases;
pub mod log;
pub mod operators;
pub mod order;
pub(crate) mod owner;
pub mod owners;
pub mod parking;
pub mod refusals;
pub mod retries;
pub mod standing;
pub mod subscription;
pub mod timers;
pub mod versions;
pub(crate) mod world;

/// How to make, restart and restore a store of the adapter that is tested. Each case gets a harness of its own.
#[async_trait]
pub trait StoreHarness: Send + Sync {
    /// Creates the store, empty, and opens it. Called once.
    async fn create(&self) -> Arc<dyn Store>;

    /// Closes `store` and opens it again over the same data, as a restart does.
    ///
    /// No other handle of it is alive. An adapter that is not durable keeps the data in the harness.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;

    /// Opens the same store as another process would, beside the one that is open; `None` when the adapter
    /// isn't [shared](factum_core::StoreCapabilities::shared).
    async fn second(&self) -> Option<Arc<dyn Store>> {
        None
    }

    /// Takes a backup while the store is open, and says whether the adapter can.
    async fn backup(&self) -> bool {
        false
    }

    /// Closes `store`, puts the backup in place of its data, and opens it in a new epoch greater than all that
    /// were used, as an operator's restore does.
    async fn restore(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }
}

/// Makes one test for each case of the store suite. The harness is an expression, evaluated for each test.
///
/// See [`conformance`](crate::conformance) for an example.
#[macro_export]
macro_rules! store_suite {
    ($harness:expr) => {
        $crate::store_suite! { @modules $harness,
            log: [
                an_empty_store_reads_as_empty,
                records_come_back_as_they_were_written,
                positions_are_dense_across_commits_that_fail,
                a_stream_is_read_in_pages,
                a_filtered_page_looks_through_no_more_than_its_limit,
                a_page_of_the_log_ends_when_it_has_enough_bytes,
                correlated_records_are_found_up_to_the_newest,
                streams_are_listed_in_order_and_in_pages,
                hostile_stream_ids_are_kept_apart,
            ],
            versions: [
                expected_versions_are_compared,
                several_appends_to_one_stream_are_consecutive,
                a_stream_condition_is_compared_without_an_append,
                the_partition_key_of_a_stream_never_changes,
                of_many_writers_at_one_version_one_wins,
                commits_are_decided_in_the_order_in_which_they_were_given,
            ],
            standing: [
                a_commit_fails_with_the_one_it_stands_on_though_its_versions_fit,
                failing_with_the_one_before_goes_on_down_the_line,
                what_stands_on_a_commit_that_was_withdrawn_shares_its_fate,
                a_rejection_decided_on_what_failed_is_not_confirmed,
                a_line_of_commits_that_stand_on_each_other_is_applied,
                standing_on_a_durable_commit_is_no_hindrance,
            ],
            atomic: [
                a_commit_that_is_refused_leaves_no_trace,
                one_that_fails_does_not_disturb_its_neighbours,
                a_guarded_commit_sent_again_is_refused,
                an_unguarded_commit_sent_again_is_applied_once,
                a_whole_effect_is_applied_at_once,
                own_sql_is_applied_with_its_commit_or_not_at_all,
            ],
            refusals: [
                records_for_unknown_topics_are_poison,
                a_record_has_a_largest_size,
                records_that_contradict_themselves_are_poison,
                own_sql_is_poison_where_none_is_spoken,
                a_topic_keeps_its_partition_count,
            ],
            answers: [
                a_command_sent_again_gets_the_answer_of_the_first,
                a_key_used_for_another_request_is_refused,
                keys_of_different_scopes_are_different,
                an_expired_key_is_free_again,
                of_two_commands_with_one_key_one_is_handled,
            ],
            subscription: [
                a_subscription_sees_every_position_once_while_writers_race,
                concurrent_appends_to_many_streams_keep_each_in_order,
                a_wait_for_what_has_happened_returns_at_once,
                everybody_who_waits_is_woken,
                parking_is_signalled,
                timers_are_signalled,
            ],
            order: [
                the_fence_is_compared_before_all_else,
                what_is_stood_on_is_compared_before_the_input,
                the_input_is_compared_before_versions_and_versions_before_rows,
            ],
            owners: [
                an_inbox_belongs_to_its_last_owner,
                an_inbox_that_nobody_claimed_takes_no_commits,
                parked_messages_belong_to_the_owner_of_their_inbox,
                the_relay_belongs_to_its_last_owner,
                the_relays_checkpoint_never_goes_back,
                a_rewind_sets_the_relays_checkpoint_back,
                a_projection_belongs_to_its_last_owner,
                a_generation_that_is_claimed_for_other_rows_starts_over,
                a_projection_goes_on_from_its_checkpoint_only,
                timers_belong_to_their_last_owner,
                of_many_claims_each_has_its_own_fence_and_one_is_valid,
            ],
            leases: [
                a_lease_changes_hands_for_whoever_saw_its_last_beat,
                of_many_who_take_a_lease_one_gets_it,
            ],
            inbox: [
                the_row_says_what_is_finished,
                commits_given_together_do_not_erase_each_others_work,
                void_messages_move_the_row_on,
                the_last_place_of_each_source_is_kept_as_of_low,
                a_release_is_told_to_the_next_owner,
                an_attempt_mark_is_kept_until_its_message_is_finished,
                an_accepted_loss_moves_a_sources_last_place_on_and_never_back,
                a_group_goes_on_at_a_later_offset_and_never_back,
                finishing_twice_is_fatal_and_no_second_effect,
                the_window_has_a_bound,
                a_group_starts_where_it_was_told,
            ],
            parking: [
                a_parked_lane_stops_its_messages_and_no_others,
                nothing_waits_behind_a_lane_that_is_free,
                a_parked_message_comes_back_as_it_was_parked,
                a_message_without_a_key_is_a_lane_of_its_own,
                lanes_of_other_groups_and_partitions_are_other_lanes,
                parking_is_bounded_per_lane_and_per_group,
                parked_messages_are_found_by_all_that_is_asked_for,
                a_page_of_parked_messages_ends_when_it_has_enough_bytes,
            ],
            retries: [
                settling_releases_the_next_by_offset,
                a_retry_that_fails_stays_at_the_head,
                only_the_head_is_retried_and_only_at_its_revision,
                a_lane_never_waits_behind_nobody,
                a_key_that_retries_for_three_hours_outlives_its_topics_retention,
            ],
            operators: [
                a_redrive_works_below_the_watermark,
                only_what_is_dead_is_redriven_or_edited,
                an_edit_keeps_the_original,
                a_discard_releases_the_next_and_keeps_the_row,
                an_operator_compares_the_revision,
            ],
            event_ids: [
                an_event_id_is_taken_once_in_a_group,
                an_event_id_is_free_again_when_it_expires,
                an_event_id_is_kept_as_long_as_its_parked_message,
                a_duplicate_is_neither_parked_nor_let_wait,
            ],
            timers: [
                timers_come_in_the_order_in_which_they_are_due,
                a_timer_fires_once,
                a_timer_set_again_is_another_timer,
                a_timer_may_be_set_by_what_it_leads_to,
            ],
            epochs: [
                a_new_epoch_counts_on_and_records_keep_theirs,
                a_new_epoch_must_be_greater,
                a_new_epoch_fences_every_owner,
                a_cursor_is_checked_against_the_time_line,
                checkpoints_beyond_the_head_are_moved_back,
                a_restored_backup_is_another_time_line,
            ],
            keeping: [
                a_restart_keeps_everything,
                a_second_process_is_one_of_two_writers,
                snapshots_are_kept_by_fingerprint,
                the_audit_record_is_read_newest_first,
                the_audit_record_is_read_to_its_end_page_by_page,
                pruning_drops_what_has_expired_and_nothing_else,
            ],
        }
    };
    (@modules $harness:expr, $($module:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        $($crate::store_suite! { @cases $harness, $module, [$($case),*] })*
    };
    (@cases $harness:expr, $module:ident, [$($case:ident),*]) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::run(async {
                    let harness = $harness;
                    $crate::conformance::store::$module::$case(&harness).await;
                });
            }
        )*
    };
}
