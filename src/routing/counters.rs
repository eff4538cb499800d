//! What the router counted, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

/// Gives the counters with their metric's name, labels and help from one list.
macro_rules! counters {
    ($($name:ident: $metric:literal $labels:literal $help:literal;)+) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $(#[doc = $help] $name,)+ }

        impl Counter {
            /// All, those of one metric beside each other.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The metric's name, the counter's labels, and what it counts.
            pub fn describe(self) -> (&'static str, &'static str, &'static str) {
                match self { $(Self::$name => ($metric, $labels, $help)),+ }
            }
        }

        const COUNT: usize = Counter::ALL.len();
    };
}

counters! {
    SentInternal: "switchboard_messages_total" "kind=\"internal\"" "Messages accepted";
    SentExternal: "switchboard_messages_total" "kind=\"external\"" "Messages accepted";
    Received: "switchboard_messages_total" "kind=\"inbound\"" "Messages accepted";
    Unrouted: "switchboard_messages_total" "kind=\"unrouted\"" "Messages accepted";
    PartsSaved: "switchboard_internal_parts_saved_total" "" "SMS parts that internal messages spared";
    Accepted: "switchboard_carrier_attempts_total" "class=\"accepted\"" "Calls to the carrier by what came of them";
    Refused: "switchboard_carrier_attempts_total" "class=\"refused\"" "Calls to the carrier by what came of them";
    Throttled: "switchboard_carrier_attempts_total" "class=\"throttled\"" "Calls to the carrier by what came of them";
    NotSent: "switchboard_carrier_attempts_total" "class=\"not_sent\"" "Calls to the carrier by what came of them";
    Config: "switchboard_carrier_attempts_total" "class=\"config\"" "Calls to the carrier by what came of them";
    InProgress: "switchboard_carrier_attempts_total" "class=\"in_progress\"" "Calls to the carrier by what came of them";
    Unclear: "switchboard_carrier_attempts_total" "class=\"unclear\"" "Calls to the carrier by what came of them";
    CarrierDuplicate: "switchboard_carrier_duplicates_total" "" "Messages that the carrier has twice";
    AskedFinal: "switchboard_carrier_questions_total" "answer=\"final\"" "Questions to the carrier about messages whose last report does not come";
    AskedOpen: "switchboard_carrier_questions_total" "answer=\"open\"" "Questions to the carrier about messages whose last report does not come";
    AskedUnknown: "switchboard_carrier_questions_total" "answer=\"unknown\"" "Questions to the carrier about messages whose last report does not come";
    AskedInVain: "switchboard_carrier_questions_total" "answer=\"none\"" "Questions to the carrier about messages whose last report does not come";
    Unreported: "switchboard_messages_unreported_total" "" "Messages whose last report of the carrier never came";
    Replayed: "switchboard_replayed_sends_total" "" "Sends that repeated an idempotency key and sent nothing";
    WebhookRefused: "switchboard_carrier_webhooks_total" "result=\"bad_signature\"" "Carrier webhooks that changed nothing";
    WebhookRepeated: "switchboard_carrier_webhooks_total" "result=\"repeated\"" "Carrier webhooks that changed nothing";
    WebhookSetAside: "switchboard_carrier_webhooks_total" "result=\"set_aside\"" "Carrier webhooks that changed nothing";
    WebhookNoted: "switchboard_carrier_webhooks_total" "result=\"other_kind\"" "Carrier webhooks that changed nothing";
    StatusChanged: "switchboard_message_status_changes_total" "" "Messages that moved to another status";
    MessageFailed: "switchboard_messages_failed_total" "" "Messages that failed";
}

/// What a message for the carrier had to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottledBy {
    /// The rate of its own number (`carrier.telnyx.number_rate`).
    NumberRate,
    /// The carrier, which asked for a pause.
    Carrier,
}

impl ThrottledBy {
    /// Both, with their names in metrics.
    pub const ALL: [(Self, &str); 2] = [(Self::NumberRate, "number_rate"), (Self::Carrier, "carrier")];
}

/// Counters since the start of the process.
#[derive(Debug)]
pub struct Counters {
    values: [AtomicU64; COUNT],
    throttle_waits: DashMap<String, [AtomicU64; ThrottledBy::ALL.len()]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { values: [const { AtomicU64::new(0) }; COUNT], throttle_waits: DashMap::default() }
    }
}

impl Counters {
    /// One more.
    pub(super) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// So many more.
    pub(super) fn add(&self, counter: Counter, amount: u64) {
        self.values[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Ordering::Relaxed)
    }

    /// A message of this app waits.
    pub(super) fn count_throttled(&self, app_id: &str, by: ThrottledBy) {
        let waits = self.throttle_waits.entry(app_id.to_owned()).or_default();
        waits[by as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often messages of this app waited.
    pub fn throttle_waits(&self, app_id: &str, by: ThrottledBy) -> u64 {
        self.throttle_waits.get(app_id).map_or(0, |waits| waits[by as usize].load(Ordering::Relaxed))
    }
}
