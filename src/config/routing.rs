//! `[routing]` and `[store]`: the message router's settings. An app's own are those of `[routing]` with
//! what `[apps.routing]` overrides.

use std::time::Duration;

use super::{Secret, media_type};

/// Events, without namespace and as they are called unless `routing.events.rename` says otherwise.
pub const EVENTS: [&str; 11] = [
    "MessageSent",
    "MessageReceived",
    "MessageStatusUpdated",
    "MessageRead",
    "MessageUpdated",
    "MessageDeleted",
    "ConversationUpdated",
    "ContactPresence",
    "UserTyping",
    "AttachmentUploaded",
    "AttachmentReady",
];

/// `[store]`: where messages, numbers and what is still to be done are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreSettings {
    /// `sqlite:PATH` (relative to `server.data_dir`) or `postgres://…` (never `postgresql://`), which may hold
    /// a password.
    pub url: Secret,
    /// Connections to PostgreSQL.
    pub pool: usize,
    /// Bytes that the store may have; `None`: no limit.
    pub max_size: Option<u64>,
    /// Bytes that the disk of an SQLite file must have left for new messages and files; `None`: none.
    pub min_free: Option<u64>,
}

/// `[routing]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingSettings {
    /// Whether the app has a message router.
    pub enabled: bool,
    /// Region of numbers written without `+` (ISO 3166 letters); `None`: such numbers are refused.
    pub default_region: Option<String>,
    /// What an own number that is assigned to nobody is.
    pub unassigned_own_number: UnassignedOwnNumber,
    /// Whether `is_internal` of contacts, conversations and messages is told.
    pub expose_internal: bool,
    /// What events carry.
    pub payload: Payload,
    /// `[routing.numbers]`.
    pub numbers: NumberSettings,
    /// `[routing.conversation]`.
    pub conversation: ConversationSettings,
    /// `[routing.ids]`.
    pub ids: IdSettings,
    /// `[routing.inbound]`.
    pub inbound: InboundSettings,
    /// `[routing.events]`.
    pub events: EventSettings,
    /// `[routing.channels]`.
    pub channels: ChannelSettings,
    /// `[routing.send]`.
    pub send: SendSettings,
    /// `[routing.limits]`.
    pub limits: LimitSettings,
    /// `[routing.broadcast]`.
    pub broadcast: BroadcastSettings,
    /// `[routing.features]`.
    pub features: FeatureSettings,
    /// `[routing.attachments]`.
    pub attachments: AttachmentSettings,
    /// `[routing.directory]`.
    pub directory: DirectorySettings,
    /// `[routing.callbacks]`.
    pub callbacks: CallbackSettings,
    /// `[routing.tokens]`.
    pub tokens: TokenSettings,
    /// `[routing.carrier.telnyx]`.
    pub telnyx: TelnyxSettings,
}

/// `[routing.numbers]`: which phone numbers are accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberSettings {
    /// How strict.
    pub check: NumberCheck,
    /// Whether letters are mapped to digits (`1-800-FLOWERS`).
    pub allow_letters: bool,
    /// Whether messages may go to short codes.
    pub allow_short_codes: bool,
}

/// `[routing.conversation]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationSettings {
    /// What makes two messages belong to one conversation.
    pub key: ConversationKey,
}

/// `[routing.ids]`.
#[derive(Clone, Debug, PartialEq)]
pub struct IdSettings {
    /// Of messages, conversations and contacts.
    pub kind: IdKind,
    /// How user ids are written in JSON.
    pub user_json: UserJson,
}

/// `[routing.inbound]`: messages from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundSettings {
    /// How old messages may be that a number's new owner gets; zero: none.
    pub deliver_unrouted: Duration,
}

/// `[routing.events]`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSettings {
    /// Put before event names with a backslash; empty: bare names.
    pub namespace: String,
    /// Other names for events: (ours, wanted), both without namespace.
    pub rename: Vec<(String, String)>,
}

/// `[routing.channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSettings {
    /// Which channels events go to.
    pub mode: ChannelMode,
    /// Whether the operator knows that public channels are open to everybody.
    pub public_acknowledged: bool,
    /// Whether public `user.*` and `messenger.*` channels need a sign-in as that user.
    pub authenticated_public: bool,
}

/// `[routing.send]`: what one message may be.
#[derive(Clone, Debug, PartialEq)]
pub struct SendSettings {
    /// How long an answer waits for the carrier's.
    pub wait: Duration,
    /// Messages a user may send in a minute.
    pub user_rate: Option<std::num::NonZeroU32>,
    /// Messages an app may send in a second.
    pub app_rate: Option<std::num::NonZeroU32>,
}

/// `[routing.limits]`: how much one user, and one app, may make the server do; `None`: no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSettings {
    /// Calls with a user's tokens, a second.
    pub user_calls: Option<std::num::NonZeroU32>,
    /// Changes of messages by a user, a minute.
    pub user_edits: Option<std::num::NonZeroU32>,
    /// New conversations of a user, a minute.
    pub user_conversations: Option<std::num::NonZeroU32>,
    /// Files that a user announces, a minute.
    pub user_files: Option<std::num::NonZeroU32>,
    /// Bytes that a user uploads, an hour.
    pub user_bytes: Option<u64>,
    /// Files that an app's users announce, a minute.
    pub app_files: Option<std::num::NonZeroU32>,
    /// Bytes that an app's users upload, an hour.
    pub app_bytes: Option<u64>,
}

/// `[routing.broadcast]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BroadcastSettings {
    /// Events older than this are not sent any more after a crash.
    pub max_age: Duration,
}

/// `[routing.features]`: what makes a messenger of it.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSettings {
    /// Whether internal contacts see each other type.
    pub typing: bool,
    /// Whether senders learn that an internal message was read.
    pub read_receipts: bool,
    /// Whether conversations learn that their internal contact is online.
    pub contact_presence: bool,
    /// Time after which a user without connections counts as offline.
    pub offline_grace: Duration,
    /// How long an internal message may be edited or deleted for everyone.
    pub edit_window: Duration,
}

/// `[routing.attachments]`: files of conversations.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachmentSettings {
    /// Where browsers and the carrier reach this server; empty: where the carrier's webhooks do.
    pub public_url: String,
    /// Bytes of one.
    pub max_size: usize,
    /// Media types that may be uploaded, under the names that [`media_type::stored`] gives them.
    pub types: Vec<String>,
    /// How long one is kept and its link works.
    pub keep: Duration,
    /// Time for a browser to bring one.
    pub upload_window: Duration,
    /// Bytes a second that an upload, download or copy must move at least…
    pub least_rate: usize,
    /// … over each span of this length.
    pub rate_window: Duration,
    /// Whether what the carrier brings is copied.
    pub copy_inbound: bool,
    /// Whether copies are fetched from private addresses, and without TLS.
    pub allow_private_addresses: bool,
}

/// `[routing.directory]`: who owns a number.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectorySettings {
    /// Own table or the portal's.
    pub mode: DirectoryMode,
    /// `mysql://…` or `postgres://…` (other names of the schemes are replaced); set when `mode` is `Sql`.
    pub url: Option<Secret>,
    /// Query with `:number` or `:candidates` giving `user_id`, `number`, `status`.
    pub find_number: String,
    /// Query with `:user_id` giving `number`, `is_default`.
    pub own_numbers: String,
    /// Query with `:user_id` and `:contact` giving `id`; empty: none.
    pub find_conversation: String,
    /// Values of `status` that mean assigned.
    pub assigned_status: Vec<String>,
    /// Milliseconds a query may take.
    pub timeout_ms: usize,
    /// Connections.
    pub pool: usize,
}

/// `[routing.callbacks]`: what the portal's backend is told.
#[derive(Clone, Debug, PartialEq)]
pub struct CallbackSettings {
    /// Where events are posted to; `None`: nowhere.
    pub url: Option<String>,
    /// Time for an answer.
    pub timeout: Duration,
    /// How long an event is tried again before it is set aside.
    pub give_up_after: Duration,
    /// The form of an event's `data`.
    pub data: CallbackData,
}

/// See [`CallbackSettings::data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackData {
    /// JSON text in a string, as in every webhook of Pusher's.
    String,
    /// The object itself.
    Object,
}

/// `[routing.tokens]`: user tokens for demonstrations without a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSettings {
    /// Whether `POST /user_tokens` gives any.
    pub enabled: bool,
}

/// `[routing.carrier.telnyx]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TelnyxSettings {
    /// `None`: external messages are refused with `messaging_disabled`.
    pub api_key: Option<Secret>,
    /// Base64 Ed25519 keys that sign webhooks, two during a change; empty: webhooks get 503.
    pub public_key: Vec<String>,
    /// Where the API is, without a slash at the end.
    pub base_url: String,
    /// Where the carrier reaches this server; empty: no `webhook_url` is given to it.
    pub public_url: String,
    /// Sent along when not empty.
    pub messaging_profile_id: String,
    /// Whether requests carry `Idempotency-Key`.
    pub idempotency: Idempotency,
    /// What an unclear outcome leads to.
    pub on_unclear: OnUnclear,
    /// Time after which a message that could not be handed over is given up.
    pub valid_for: Duration,
    /// Attempts after which it is given up.
    pub max_attempts: usize,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for a whole call.
    pub timeout: Duration,
    /// Messages a second from one own number.
    pub number_rate: Option<std::num::NonZeroU32>,
    /// Calls of one app at the same time.
    pub concurrency: usize,
    /// Whether messages between two numbers wait for each other.
    pub ordering: Ordering,
    /// Time after which the carrier is asked about a message whose last report did not come.
    pub ask_after: Duration,
    /// Questions about one message.
    pub ask_times: usize,
    /// Questions of one app in a minute.
    pub ask_rate: Option<std::num::NonZeroU32>,
}

/// How strictly phone numbers are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberCheck {
    /// The length fits the region.
    Possible,
    /// The number is in a range known to be in use.
    Valid,
}

/// See [`RoutingSettings::unassigned_own_number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnassignedOwnNumber {
    /// A destination as any other: it goes to the carrier.
    External,
    /// Refused.
    Reject,
}

/// See [`RoutingSettings::payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Whole records.
    Full,
    /// Ids and states; the page reloads from its own backend.
    Ids,
}

/// See [`ConversationSettings::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversationKey {
    /// User and contact number.
    UserContact,
    /// Own number and contact number.
    NumberContact,
}

/// See [`IdSettings::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// Numbers counted up.
    Int,
    /// ULIDs, which can't be guessed.
    Ulid,
}

/// See [`IdSettings::user_json`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserJson {
    /// A number when it looks like one.
    Auto,
    /// Always a string.
    String,
}

/// See [`ChannelSettings::mode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelMode {
    /// `user.<id>`, `messenger.<id>`.
    Public,
    /// `private-user.<id>`, `private-messenger.<id>`.
    Private,
    /// Both.
    Both,
}

/// See [`DirectorySettings::mode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryMode {
    /// The server's own table.
    Own,
    /// The portal's tables, read-only.
    Sql,
}

impl DirectoryMode {
    /// As it is configured and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Sql => "sql",
        }
    }
}

/// See [`TelnyxSettings::idempotency`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// Header `Idempotency-Key`.
    Header,
    /// Nothing; unclear outcomes are not tried again.
    Off,
}

/// See [`TelnyxSettings::on_unclear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnclear {
    /// Same bytes and same key again; without a key as `Hold`.
    RetryWithKey,
    /// Wait for a webhook or a person.
    Hold,
    /// Again, at the risk of sending twice.
    Resend,
}

/// See [`TelnyxSettings::ordering`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// One at a time, in the order of sending.
    Strict,
    /// All at once.
    Relaxed,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            url: Secret::new("sqlite:switchboard.db".to_owned()),
            pool: 8,
            max_size: None,
            min_free: Some(64 << 20),
        }
    }
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            default_region: Some("US".to_owned()),
            unassigned_own_number: UnassignedOwnNumber::External,
            expose_internal: true,
            payload: Payload::Full,
            numbers: NumberSettings {
                check: NumberCheck::Possible,
                allow_letters: false,
                allow_short_codes: false,
            },
            conversation: ConversationSettings { key: ConversationKey::UserContact },
            ids: IdSettings { kind: IdKind::Int, user_json: UserJson::Auto },
            inbound: InboundSettings { deliver_unrouted: Duration::from_hours(7 * 24) },
            events: EventSettings { namespace: "App\\Events".to_owned(), rename: Vec::new() },
            channels: ChannelSettings {
                mode: ChannelMode::Public,
                public_acknowledged: false,
                authenticated_public: false,
            },
            send: SendSettings {
                wait: Duration::from_secs(2),
                user_rate: std::num::NonZeroU32::new(60),
                app_rate: None,
            },
            limits: LimitSettings {
                user_calls: std::num::NonZeroU32::new(20),
                user_edits: std::num::NonZeroU32::new(120),
                user_conversations: std::num::NonZeroU32::new(120),
                user_files: std::num::NonZeroU32::new(120),
                user_bytes: Some(1 << 30),
                app_files: std::num::NonZeroU32::new(6_000),
                app_bytes: Some(32 << 30),
            },
            broadcast: BroadcastSettings { max_age: Duration::from_mins(10) },
            features: FeatureSettings {
                typing: true,
                read_receipts: true,
                contact_presence: true,
                offline_grace: Duration::from_secs(10),
                edit_window: Duration::from_mins(15),
            },
            attachments: AttachmentSettings {
                public_url: String::new(),
                max_size: 5_000_000,
                types: media_type::uploads(),
                keep: Duration::from_hours(90 * 24),
                upload_window: Duration::from_mins(15),
                least_rate: 1 << 10,
                rate_window: Duration::from_secs(30),
                copy_inbound: true,
                allow_private_addresses: false,
            },
            directory: DirectorySettings {
                mode: DirectoryMode::Own,
                url: None,
                find_number: String::new(),
                own_numbers: String::new(),
                find_conversation: String::new(),
                assigned_status: vec!["assigned".to_owned()],
                timeout_ms: 500,
                pool: 5,
            },
            callbacks: CallbackSettings {
                url: None,
                timeout: Duration::from_secs(5),
                give_up_after: Duration::from_hours(24),
                data: CallbackData::String,
            },
            tokens: TokenSettings { enabled: false },
            telnyx: TelnyxSettings {
                api_key: None,
                public_key: Vec::new(),
                base_url: "https://api.telnyx.com/v2".to_owned(),
                public_url: String::new(),
                messaging_profile_id: String::new(),
                idempotency: Idempotency::Header,
                on_unclear: OnUnclear::RetryWithKey,
                valid_for: Duration::from_mins(15),
                max_attempts: 8,
                connect_timeout: Duration::from_secs(3),
                timeout: Duration::from_secs(10),
                number_rate: None,
                concurrency: 16,
                ordering: Ordering::Strict,
                ask_after: Duration::from_mins(15),
                ask_times: 6,
                ask_rate: std::num::NonZeroU32::new(60),
            },
        }
    }
}
