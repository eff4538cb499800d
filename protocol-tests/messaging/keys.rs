//! Each key of `[store]` and `[routing…]` has a test that notices when it is not obeyed; here they are named.

use std::collections::BTreeSet;

use crate::documentation::{has_test, read};

/// A key as docs/configuration.md lists it, and the test.
const TESTS: &[(&str, &str)] = &[
    ("store.url", "messaging/crash::t20_kills_and_faults_lose_nothing_and_double_nothing_on_postgresql"),
    ("store.pool", "messaging/settings::the_store_has_no_more_connections_than_its_pool"),
    ("store.max_size", "messaging/writes::a_full_store_refuses_what_is_new_and_keeps_what_was_promised"),
    ("store.min_free", "messaging/writes::nothing_new_is_taken_while_the_disk_is_nearly_full"),
    ("routing.enabled", "messaging/settings::without_a_router_there_is_no_messaging"),
    ("routing.default_region", "messaging/settings::national_numbers_are_of_the_default_region"),
    ("routing.unassigned_own_number", "messaging/api::t37_unassigned_own_numbers_can_be_refused"),
    ("routing.expose_internal", "messaging/settings::nobody_learns_who_is_a_user_when_that_is_hidden"),
    ("routing.payload", "messaging/settings::events_with_ids_only_still_fire_the_pages_listeners"),
    ("routing.numbers.check", "messaging/settings::numbers_are_checked_as_strictly_as_configured"),
    ("routing.numbers.allow_letters", "messaging/settings::numbers_are_checked_as_strictly_as_configured"),
    (
        "routing.numbers.allow_short_codes",
        "messaging/settings::short_codes_can_be_texted_where_that_is_allowed",
    ),
    ("routing.conversation.key", "messaging/settings::each_own_number_can_have_a_thread_of_its_own"),
    ("routing.ids.kind", "messaging/settings::ulids_stand_in_the_api_in_events_and_in_channels"),
    ("routing.ids.user_json", "messaging/settings::user_ids_can_always_be_strings"),
    (
        "routing.inbound.deliver_unrouted",
        "messaging/inbound::what_is_too_old_is_not_given_to_a_numbers_new_owner",
    ),
    (
        "routing.events.namespace",
        "messaging/settings::bare_and_renamed_events_reach_the_listeners_that_name_them",
    ),
    (
        "routing.events.rename",
        "messaging/settings::bare_and_renamed_events_reach_the_listeners_that_name_them",
    ),
    ("routing.channels.mode", "messaging/isolation::t40_both_kinds_of_channels_for_a_migration"),
    (
        "routing.channels.public_acknowledged",
        "messaging/settings::public_channels_are_warned_of_until_that_is_acknowledged",
    ),
    (
        "routing.channels.authenticated_public",
        "messaging/isolation::public_channels_can_be_kept_for_those_who_signed_in",
    ),
    (
        "routing.send.wait",
        "messaging/carrier_settings::an_answer_waits_for_the_carrier_as_long_as_configured",
    ),
    ("routing.send.user_rate", "messaging/api::t37_too_many_messages_are_refused_for_a_while"),
    ("routing.send.app_rate", "messaging/settings::an_app_sends_no_more_than_its_rate"),
    (
        "routing.limits.user_calls",
        "messaging/writes::calls_with_a_users_token_are_counted_and_the_portals_are_not",
    ),
    (
        "routing.limits.user_edits",
        "messaging/writes::edits_conversations_and_files_of_a_user_are_counted_and_others_go_on",
    ),
    (
        "routing.limits.user_conversations",
        "messaging/writes::edits_conversations_and_files_of_a_user_are_counted_and_others_go_on",
    ),
    (
        "routing.limits.user_files",
        "messaging/writes::edits_conversations_and_files_of_a_user_are_counted_and_others_go_on",
    ),
    ("routing.limits.user_bytes", "messaging/writes::bytes_of_uploads_are_counted_also_of_those_that_fail"),
    ("routing.limits.app_files", "messaging/writes::files_and_bytes_of_an_app_are_counted_for_all_its_users"),
    ("routing.limits.app_bytes", "messaging/writes::files_and_bytes_of_an_app_are_counted_for_all_its_users"),
    (
        "routing.broadcast.max_age",
        "messaging/settings::an_event_that_a_crash_left_behind_is_sent_unless_it_is_too_old",
    ),
    ("routing.attachments.public_url", "messaging/attachments::without_an_address_there_are_no_attachments"),
    ("routing.attachments.max_size", "messaging/attachments::what_was_not_announced_is_refused"),
    ("routing.attachments.types", "messaging/attachments::what_was_not_announced_is_refused"),
    ("routing.attachments.keep", "messaging/attachments::links_end_and_serve_for_one_file_and_purpose"),
    (
        "routing.attachments.upload_window",
        "messaging/attachments::links_end_and_serve_for_one_file_and_purpose",
    ),
    ("routing.attachments.least_rate", "messaging/transfers::a_slow_upload_arrives_and_an_idle_one_ends"),
    ("routing.attachments.rate_window", "messaging/transfers::a_slow_upload_arrives_and_an_idle_one_ends"),
    (
        "routing.attachments.copy_inbound",
        "messaging/inbound_media::what_the_carrier_brings_stays_there_unless_copied",
    ),
    (
        "routing.attachments.allow_private_addresses",
        "messaging/inbound_media::what_the_carrier_brings_stays_there_unless_copied",
    ),
    ("routing.features.typing", "messaging/features::t41_typing_receipts_and_presence_can_be_turned_off"),
    (
        "routing.features.read_receipts",
        "messaging/features::t41_typing_receipts_and_presence_can_be_turned_off",
    ),
    (
        "routing.features.contact_presence",
        "messaging/features::t41_typing_receipts_and_presence_can_be_turned_off",
    ),
    ("routing.features.offline_grace", "messaging/features::t41_contacts_are_seen_online_and_offline"),
    ("routing.features.edit_window", "messaging/settings::a_window_of_nothing_forbids_editing"),
    ("routing.directory.mode", "messaging/portal_database::t11_without_a_directory_nothing_is_sent"),
    ("routing.directory.url", "messaging/portal_database::t11_without_a_directory_nothing_is_sent"),
    (
        "routing.directory.find_number",
        "messaging/portal_database::spellings_of_a_number_are_looked_for_and_two_owners_are_none",
    ),
    ("routing.directory.own_numbers", "messaging/portal_database::t11_without_a_directory_nothing_is_sent"),
    (
        "routing.directory.find_conversation",
        "messaging/portal_database::the_portal_is_told_before_the_browsers_and_its_ids_are_used",
    ),
    (
        "routing.directory.assigned_status",
        "messaging/portal_database::the_words_for_assigned_are_the_portals",
    ),
    ("routing.directory.timeout_ms", "messaging/portal_database::a_look_up_takes_no_longer_than_its_time"),
    ("routing.directory.pool", "messaging/portal_database::no_more_connections_are_opened_than_the_pool_has"),
    (
        "routing.callbacks.url",
        "messaging/isolation::a_failing_portal_delays_no_message_and_is_told_later_in_order",
    ),
    ("routing.callbacks.timeout", "messaging/operating::a_callback_that_is_not_answered_in_time_has_failed"),
    (
        "routing.callbacks.give_up_after",
        "messaging/operating::callbacks_that_were_given_up_are_listed_and_sent_again",
    ),
    ("routing.callbacks.data", "messaging/callbacks::a_backend_that_expects_an_object_can_have_one"),
    ("routing.tokens.enabled", "messaging/operating::there_are_no_tokens_by_default"),
    (
        "routing.carrier.telnyx.api_key",
        "messaging/carrier_settings::without_a_key_of_the_carrier_only_users_can_be_texted",
    ),
    (
        "routing.carrier.telnyx.public_key",
        "messaging/carrier_webhooks::without_a_public_key_no_webhook_is_believed",
    ),
    (
        "routing.carrier.telnyx.base_url",
        "messaging/own::t02_an_external_message_is_seen_at_once_and_followed_to_delivery",
    ),
    (
        "routing.carrier.telnyx.public_url",
        "messaging/carrier_settings::the_carrier_is_told_where_to_report_if_that_is_known",
    ),
    (
        "routing.carrier.telnyx.messaging_profile_id",
        "messaging/carrier_settings::the_profile_of_a_number_goes_before_the_apps",
    ),
    (
        "routing.carrier.telnyx.idempotency",
        "messaging/carrier_settings::what_is_unclear_can_be_sent_again_at_ones_risk",
    ),
    ("routing.carrier.telnyx.on_unclear", "messaging/carrier_settings::what_is_unclear_can_be_held"),
    (
        "routing.carrier.telnyx.valid_for",
        "messaging/carrier_settings::attempts_end_with_their_number_and_messages_with_their_age",
    ),
    (
        "routing.carrier.telnyx.max_attempts",
        "messaging/carrier_settings::attempts_end_with_their_number_and_messages_with_their_age",
    ),
    (
        "routing.carrier.telnyx.connect_timeout",
        "messaging/carrier_settings::a_connection_takes_no_longer_than_its_timeout",
    ),
    ("routing.carrier.telnyx.timeout", "messaging/carrier_settings::a_call_takes_no_longer_than_its_timeout"),
    (
        "routing.carrier.telnyx.number_rate",
        "messaging/carrier_settings::a_number_sends_no_faster_than_its_rate",
    ),
    (
        "routing.carrier.telnyx.concurrency",
        "messaging/carrier_settings::calls_go_out_at_once_up_to_the_concurrency_and_out_of_order_if_relaxed",
    ),
    (
        "routing.carrier.telnyx.ordering",
        "messaging/carrier_settings::calls_go_out_at_once_up_to_the_concurrency_and_out_of_order_if_relaxed",
    ),
    ("routing.carrier.telnyx.ask_after", "messaging/unreported::a_report_that_does_not_come_is_asked_for"),
    (
        "routing.carrier.telnyx.ask_times",
        "messaging/unreported::what_the_carrier_never_says_ends_with_a_doubt",
    ),
    ("routing.carrier.telnyx.ask_rate", "messaging/unreported::the_carrier_is_asked_no_faster_than_the_rate"),
];

/// The keys of a page's sections that the router has.
fn documented(page: &str) -> BTreeSet<String> {
    let mut section = None;
    let mut keys = BTreeSet::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("### `[") {
            section =
                heading.strip_suffix("]`").filter(|name| *name == "store" || name.starts_with("routing"));
        }
        let key = line.strip_prefix("| `").and_then(|rest| rest.split_once('`'));
        if let (Some(section), Some((key, _))) = (section, key) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn every_key_of_the_router_names_a_test_that_exists() {
    let page = read("docs/configuration.md").expect("the page");
    let documented = documented(&page);
    assert!(documented.len() > 40, "only {documented:?} were found: did the page change?");
    let listed: BTreeSet<String> = TESTS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(listed, documented, "keys of the list, and of docs/configuration.md");
    assert_eq!(listed.len(), TESTS.len(), "each key once");
    let missing: Vec<_> = TESTS.iter().filter(|(_, test)| !has_test(test)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
