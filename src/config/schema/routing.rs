//! The message router's sections. `[apps.routing]` takes the same keys for one app.

use std::num::NonZeroU32;

use super::{DAY, HOUR, Key, MINUTE, Root, SECOND, Section};
use crate::config::RoutingSettings;
use crate::config::kind::{Count, Kind, Limit, MostBytes, OneOf, Size, Switch, Time};
use crate::config::routing_kind::{
    ApiKey, MediaTypes, Namespace, ProfileId, PublicKeys, Query, Region, Renames, Texts,
};
use crate::config::url::{BaseUrl, CallbackUrl, PortalUrl, PublicUrl};
use crate::config::{
    CallbackData, ChannelMode, ConversationKey, DirectoryMode, IdKind, Idempotency, NumberCheck, OnUnclear,
    Ordering, Payload, UnassignedOwnNumber, UserJson,
};

/// In the order of the reference page.
pub(super) static SECTIONS: &[Section] = &[
    section! {
        /// The message router: it carries text messages between users of a portal, and through a carrier to all other
        /// phone numbers. `[apps.routing…]` replaces keys of `[routing…]` for one app.
        "routing", |routing: RoutingSettings| routing;
        /// Whether the app has a message router.
        enabled: Switch;
        /// Region (ISO 3166) of phone numbers that are written without `+`. `""`: such numbers are refused.
        default_region: Region;
        /// How to treat a message to an own number that no user has. `"external"`: it goes to the carrier as to any other
        /// number. `"reject"`: it is refused.
        unassigned_own_number: OneOf<UnassignedOwnNumber>;
        /// Whether `is_internal` of contacts, conversations and messages shows that a number belongs to a user of the
        /// portal. `false`: it is null, and users do not see which contacts are online.
        expose_internal: Switch;
        /// Content of events. `"full"`: whole records. `"ids"`: ids and states only, and the page loads the rest from the
        /// portal; this protects public channels at the least cost.
        payload: OneOf<Payload>;
    },
    section! {
        /// The check of phone numbers.
        "routing.numbers", |routing: RoutingSettings| routing.numbers;
        /// `"possible"`: the carrier decides whether the number exists; the server refuses a text that can't be one
        /// ([numbers](messaging.md#numbers)). `"valid"`: the number must also be in a range that this version knows; this
        /// refuses fictional numbers such as `+15551234567`, and ranges, lengths and country codes newer than this version,
        /// such as the area codes 357, 457 and 679 of North America. Neither refuses an answer to a contact.
        check: OneOf<NumberCheck>;
        /// Whether letters stand for digits, as in `1-800-FLOWERS`.
        allow_letters: Switch;
        /// Whether messages may be sent to short codes. They are always accepted as senders.
        allow_short_codes: Switch;
    },
    section! {
        /// How messages form conversations.
        "routing.conversation", |routing: RoutingSettings| routing.conversation;
        /// `"user+contact"`: a user has one conversation with a contact. `"number+contact"`: one for each of the user's
        /// numbers.
        key: OneOf<ConversationKey>;
    },
    section! {
        /// The ids of records.
        "routing.ids", |routing: RoutingSettings| routing.ids;
        /// Ids of messages, conversations and contacts: numbers counted up, as Laravel has them, or ULIDs, which
        /// cannot be guessed (advised with public channels).
        kind: OneOf<IdKind>;
        /// How user ids are written in JSON: as a number when they look like one, or always as a string.
        user_json: OneOf<UserJson>;
    },
    section! {
        /// Messages from outside.
        "routing.inbound", |routing: RoutingSettings| routing.inbound;
        /// The server keeps messages to a number without a user. A user who gets the number gets the messages of this
        /// time before; `"0s"`: none. They may be meant for the number's earlier user, so choose a short time where
        /// numbers move from user to user.
        deliver_unrouted: Time<0, { 365 * DAY }>;
    },
    section! {
        /// The names of events.
        "routing.events", |routing: RoutingSettings| routing.events;
        /// Namespace in front of event names. The default suits Echo's `listen('MessageReceived')`; `""` sends names
        /// without it, for `listen('.MessageReceived')` and pusher-js. A dot counts as a backslash.
        namespace: Namespace;
        /// Other names for events, as `["MessageSent=SmsSent"]`, both without the namespace.
        rename: Renames;
    },
    section! {
        /// The channels that events are sent to.
        "routing.channels", |routing: RoutingSettings| routing.channels;
        /// `"public"`: `user.<id>` and `messenger.<id>`. `"private"`: the same behind `private-`, authorised by
        /// the portal. `"both"`: twice the traffic, for a migration.
        mode: OneOf<ChannelMode>;
        /// `true` ends the warning about public channels: anyone with the app key, which is in the page's source, can
        /// subscribe to them and read their events.
        public_acknowledged: Switch;
        /// Whether public `user.*` and `messenger.*` channels are refused unless the connection signed in
        /// (`pusher:signin`) as that user.
        authenticated_public: Switch;
    },
    section! {
        /// Limits of sending.
        "routing.send", |routing: RoutingSettings| routing.send;
        /// Longest time that the answer to a send request waits for the carrier. After it the status is `sending`, and
        /// the message goes on.
        wait: Time<0, { 30 * SECOND }>;
        /// Most messages that a user may send in a minute.
        user_rate: Limit<NonZeroU32>;
        /// Most messages that an app may send in a second.
        app_rate: Limit<NonZeroU32>;
    },
    section! {
        /// Limits of calls and writes, so that no user fills the store or keeps the server from the others. Beyond one the
        /// server answers with 429 `rate_limited` and `Retry-After`. As many as in the stated time may come at once. Each
        /// server process counts by itself.
        "routing.limits", |routing: RoutingSettings| routing.limits;
        /// Most calls with user tokens that one user may make in a second; ten times as many at once.
        user_calls: Limit<NonZeroU32>;
        /// Most messages that a user may edit or delete in a minute.
        user_edits: Limit<NonZeroU32>;
        /// Most conversations that a user may begin in a minute. Conversations that others begin with the user do not count.
        user_conversations: Limit<NonZeroU32>;
        /// Most files that a user may announce in a minute.
        user_files: Limit<NonZeroU32>;
        /// Most bytes that a user may upload in an hour.
        user_bytes: MostBytes;
        /// Most files that all users of an app may announce in a minute.
        app_files: Limit<NonZeroU32>;
        /// Most bytes that all users of an app may upload in an hour.
        app_bytes: MostBytes;
    },
    section! {
        /// Events to browsers.
        "routing.broadcast", |routing: RoutingSettings| routing.broadcast;
        /// Greatest age of an event that is sent after a crash. Older events are dropped, as clients reload when they
        /// reconnect.
        max_age: Time<SECOND, DAY>;
    },
    section! {
        /// Features between users of the portal. The carrier transports none of them.
        "routing.features", |routing: RoutingSettings| routing.features;
        /// Whether a user sees that the contact is typing.
        typing: Switch;
        /// Whether a sender sees that the message was read.
        read_receipts: Switch;
        /// Whether a user sees that a contact is online.
        contact_presence: Switch;
        /// Time without a connection after which a user counts as offline. It should be longer than a change of the page.
        offline_grace: Time<0, HOUR>;
        /// Time in which a message may be edited, or deleted for both sides. `"0s"`: never.
        edit_window: Time<0, { 30 * DAY }>;
    },
    section! {
        /// Files in conversations. The store keeps them, and signed links open them.
        "routing.attachments", |routing: RoutingSettings| routing.attachments;
        /// Public address of this server, with which links begin. `""`: the same as `carrier.telnyx.public_url`. Without
        /// either there are no attachments.
        public_url: PublicUrl;
        /// Largest file. Every carrier takes 600 KB; more depends on the carrier.
        max_size: Size<1_000, 50_000_000>;
        /// Media types that users may upload, under any of their names (`image/jpg` is `image/jpeg`). Files of incoming
        /// messages are kept whatever they are. The server sends files in a way that no browser runs them.
        types: MediaTypes;
        /// Time for which a file is kept and its link works.
        keep: Time<HOUR, { 3_650 * DAY }>;
        /// Time in which a browser must upload an announced file, and in which, from then on, a message must name the file;
        /// otherwise the server deletes it.
        upload_window: Time<SECOND, DAY>;
        /// Bytes a second that an upload, a download or a copy must move at least. There is no other limit of its time.
        least_rate: Size<1, { 1 << 20 }>;
        /// Time over which `least_rate` is measured. The server ends a transfer that moves fewer bytes in such a time.
        rate_window: Time<SECOND, { 10 * MINUTE }>;
        /// Whether the server copies files of incoming messages, as the carrier's links end within days. It copies over
        /// `https` and from public addresses only.
        copy_inbound: Switch;
        /// Whether `copy_inbound` also copies from private addresses and over `http`. For tests.
        allow_private_addresses: Switch;
    },
    section! {
        /// The directory: which user has a phone number. `mode = "sql"` reads the portal's own tables and writes nothing there. Queries
        /// are one statement; parameters are bound, never pasted in; columns are read as text, so cast numbers
        /// (`CAST(user_id AS CHAR)`, `user_id::text`). Use an account that may only `SELECT`.
        "routing.directory", |routing: RoutingSettings| routing.directory;
        /// `"own"`: the server's own table. `"sql"`: the portal's database.
        mode: OneOf<DirectoryMode>;
        /// The portal's database, needed by `"sql"`. `url_file` reads it from a file. `config show` masks the
        /// password.
        url: PortalUrl;
        /// Query that returns `user_id`, `number` and `status` for `:number` (E.164), or for `:candidates`, its usual
        /// spellings. Needed by `"sql"`.
        find_number: Query;
        /// Query that returns `number` and `is_default` for `:user_id`. Needed by `"sql"`.
        own_numbers: Query;
        /// Query that returns the portal's `id` of a conversation for `:user_id` and `:contact` (E.164). `""`: the router
        /// takes ids from requests and callbacks only.
        find_conversation: Query;
        /// Values of `status` that mean that a user has the number. Upper and lower case differ.
        assigned_status: Texts;
        /// Longest time of a query in milliseconds. Beyond it the server answers with 503.
        timeout_ms: Count<1, 60_000>;
        /// Most connections to the portal's database.
        pool: Count<1, 100>;
    },
    section! {
        /// Events for the portal's backend, signed as Pusher webhooks are, with the app's first secret.
        "routing.callbacks", |routing: RoutingSettings| routing.callbacks;
        /// Address that receives them by POST. `""`: none are sent.
        url: CallbackUrl;
        /// Time in which the backend must answer.
        timeout: Time<100, MINUTE>;
        /// Time for which the server repeats a failed request. After it the event is set aside.
        give_up_after: Time<SECOND, { 30 * DAY }>;
        /// Form of an event's `data`. `"string"`: JSON text in a string, as in Pusher's webhooks, which every server SDK
        /// reads. `"object"`: the object itself, for backends that expect it; the SDKs for Go and .NET refuse it.
        data: OneOf<CallbackData>;
    },
    section! {
        /// Tokens with which a browser may use the API as one user, for demonstrations without a backend.
        "routing.tokens", |routing: RoutingSettings| routing.tokens;
        /// Whether `POST /user_tokens` issues tokens.
        enabled: Switch;
    },
    section! {
        /// The carrier. It receives texts and phone numbers, so use `https` for anything but a test.
        "routing.carrier.telnyx", |routing: RoutingSettings| routing.telnyx;
        /// API key; without it messages to external numbers are refused with `messaging_disabled`. `api_key_file`
        /// reads it from a file. Empty counts as not set.
        api_key: ApiKey;
        /// Public key of the account, which verifies the carrier's webhooks; two keys while it is being replaced. `""`:
        /// the server answers webhooks with 503.
        public_key: PublicKeys;
        /// Address of the carrier's API.
        base_url: BaseUrl;
        /// Public address of this server, of which each message's `webhook_url` is made. `""`: messages have no
        /// `webhook_url`, so the carrier sends webhooks to the address of the messaging profile, and the state of a
        /// message whose answer was lost stays unclear.
        public_url: PublicUrl;
        /// Messaging profile for numbers that have none in the directory. `""`: the carrier takes the profile of the
        /// number.
        messaging_profile_id: ProfileId;
        /// Whether requests carry `Idempotency-Key`, with which the carrier sends a repeated message once only.
        idempotency: OneOf<Idempotency>;
        /// What to do if it is unknown whether the carrier accepted a message: `"retry_with_key"` repeats the same bytes under
        /// the same key, for 23 hours (without `idempotency` it holds instead); `"hold"` leaves it `unconfirmed`
        /// until a webhook or a person settles it; `"resend"` repeats it at the risk of sending it twice.
        on_unclear: OneOf<OnUnclear>;
        /// Age at which a message that the carrier has not accepted fails as `expired`.
        valid_for: Time<SECOND, DAY>;
        /// Attempts after which a message fails.
        max_attempts: Count<1, 100>;
        /// Time in which a connection to the carrier must be established.
        connect_timeout: Time<100, MINUTE>;
        /// Longest time of a whole request to the carrier.
        timeout: Time<100, { 5 * MINUTE }>;
        /// Most messages of one own number in a second. The carrier's own limit depends on the kind of number.
        number_rate: Limit<NonZeroU32>;
        /// Most requests of one app to the carrier at the same time.
        concurrency: Count<1, 1_000>;
        /// `"strict"`: messages between two numbers are sent one at a time, in their order. `"relaxed"`: at the same time.
        ordering: OneOf<Ordering>;
        /// Time after which the server asks the carrier what became of a message that the carrier accepted and did not
        /// finally report. The next question comes after twice the time, then four times, up to a day.
        ask_after: Time<SECOND, DAY>;
        /// Most questions about one message. After the last one the message is `sent` with `delivery_unconfirmed`. `0`:
        /// it is so after `ask_after`, and the carrier is not asked.
        ask_times: Count<0, 20>;
        /// Most questions of one app in a minute, on each server.
        ask_rate: Limit<NonZeroU32>;
    },
];
