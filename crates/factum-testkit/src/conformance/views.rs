//! The contract of the views port as tests, for views that live in a store and for those outside of it.
//!
//! The harness is that of the [store suite](super::store); rows are written by commits and read through
//! [`Store::views`](factum_core::Store::views), which must be there. For an engine outside of stores it is a store
//! [with its views](factum_core::WithViews) in there.

pub mod outside;
pub mod paging;
pub mod queries;
pub mod random;
pub mod rows;
pub mod schema;
pub(crate) mod shelf;

/// Makes one test for each case of the views suite, for views that live in a store. The harness is an expression, evaluated for each test.
///
/// See [`conformance`](crate::conformance) for how a harness looks like.
#[macro_export]
macro_rules! views_suite {
    ($harness:expr) => {
        $crate::views_suite! { @everywhere $harness }
        $crate::views_suite! { @modules $harness,
            rows: [
                a_row_condition_compares_the_version_that_was_read,
                of_many_who_read_a_row_one_writes_it,
            ],
        }
    };
    (@everywhere $harness:expr) => {
        $crate::views_suite! { @modules $harness,
            rows: [
                a_row_is_read_as_it_was_written,
                a_stale_write_does_not_overwrite,
                a_delete_leaves_a_tombstone,
                of_writes_at_one_version_the_last_counts,
                a_document_that_does_not_fit_its_definition_is_poison,
                a_restart_keeps_rows_tombstones_and_the_active_generation,
                hostile_ids_and_values_are_kept_apart,
            ],
            schema: [
                readers_see_the_active_generation,
                an_activation_that_was_overtaken_changes_nothing,
                generations_are_kept_apart,
                a_generation_that_nobody_sees_is_dropped,
                a_generation_keeps_its_definition,
                a_definition_that_nobody_could_keep_is_refused,
                similar_names_are_different_views,
                what_was_not_prepared_is_refused,
                fields_may_have_any_declared_name,
            ],
            queries: [
                text_is_in_the_order_of_its_bytes,
                nulls_are_last_in_both_directions,
                ties_are_in_the_order_of_ids,
                integers_are_exact,
                every_operator_compares,
                filters_hold_together,
                fields_that_are_not_declared_are_refused,
                counting_stops_at_the_cap,
                words_are_found_where_the_engine_can,
            ],
            paging: [
                pages_by_cursor_hold_every_row_once,
                a_cursor_stays_where_it_is_while_rows_come_and_go,
                a_cursor_goes_through_text,
                pages_by_number_hold_every_row_once,
                pages_have_bounds,
            ],
            random: [
                random_queries_agree_with_a_plain_list,
            ],
        }
    };
    (@modules $harness:expr, $($module:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        $($crate::views_suite! { @cases $harness, $module, [$($case),*] })*
    };
    (@cases $harness:expr, $module:ident, [$($case:ident),*]) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::run(async {
                    let harness = $harness;
                    $crate::conformance::views::$module::$case(&harness).await;
                });
            }
        )*
    };
}

/// Makes one test for each case of the views suite, for views [outside](factum_core::views::outside) of the store. The
/// harness is an expression, evaluated for each test.
///
/// See [`conformance`](crate::conformance) for how a harness looks like.
#[macro_export]
macro_rules! outside_views_suite {
    ($harness:expr) => {
        $crate::views_suite! { @everywhere $harness }
        $crate::views_suite! { @modules $harness,
            outside: [
                rows_are_written_by_the_owner_of_their_projection_alone,
                a_batch_that_was_applied_is_not_applied_again,
                a_checkpoint_moves_with_its_rows_or_not_at_all,
                a_former_owner_can_do_nothing,
                an_owner_finds_out_without_writing_whether_it_still_is,
                a_commit_can_not_write_rows_and_something_else,
                what_a_projection_skips_is_recorded_in_the_store,
                a_generation_goes_on_where_it_was_and_is_forgotten,
                another_fingerprint_starts_over,
                readers_are_shown_how_far_the_rows_have_come,
                what_left_no_rows_is_shown_before_its_checkpoint_is_stored,
                a_new_epoch_sees_nothing_of_the_old,
                a_second_process_sees_the_same_views,
            ],
        }
    };
}
