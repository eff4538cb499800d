//! The message router's sections. `[apps.routing]` takes the same keys for one app.

use std::num::NonZeroU32;

use super::{DAY, HOUR, Key, MINUTE, Root, SECOND, Section};
use crate::config::RoutingSettings;
use crate::config::kind::{Count, Kind, Limit, OneOf, Size, Switch, Time};
use crate::config::routing_kind::{ApiKey, Namespace, ProfileId, PublicKeys, Query, Region, Renames, Texts};
use crate::config::url::{BaseUrl, CallbackUrl, PortalUrl, PublicUrl};
use crate::config::{
    ChannelMode, ConversationKey, DirectoryMode, IdKind, Idempotency, NumberCheck, OnUnclear, Ordering,
    Payload, UnassignedOwnNumber, UserJson,
};

/// In the order of the reference page.
pub(super) static SECTIONS: &[Section] = &[
    section! {
        /// The message router: text messages between users of a portal, and through a carrier to everybody
        /// else. Every key of `[routing…]` may be overridden for one app below `[apps.routing…]`.
        "routing", |routing: RoutingSettings| routing;
        /// Whether there is a message router.
        enabled: Switch;
        /// Region of numbers that are written without `+`; `""`: such numbers are refused.
        default_region: Region;
        /// A destination that is an own number assigned to nobody: `"external"` sends it to the carrier as any
        /// other number, `"reject"` refuses it.
        unassigned_own_number: OneOf<UnassignedOwnNumber>;
        /// Whether `is_internal` of contacts, conversations and messages tells that a number belongs to a user of the portal; `false`: it is null, and nobody sees who is online.
        expose_internal: Switch;
        /// What events carry: whole records, or ids and states only, so that the page reloads from the
        /// portal. `"ids"` is the cheapest protection of public channels.
        payload: OneOf<Payload>;
    },
    section! {
        /// Which phone numbers are accepted.
        "routing.numbers", |routing: RoutingSettings| routing.numbers;
        /// `"possible"`: the length fits the region. `"valid"`: the number is also in a range known to be in use,
        /// which refuses fictional numbers such as `+15551234567` and ranges newer than this version.
        check: OneOf<NumberCheck>;
        /// Whether letters stand for digits, as in `1-800-FLOWERS`.
        allow_letters: Switch;
        /// Whether messages may be sent to short codes. They are always accepted as senders.
        allow_short_codes: Switch;
    },
    section! {
        /// What belongs together.
        "routing.conversation", |routing: RoutingSettings| routing.conversation;
        /// What makes two messages one conversation: user and contact, or own number and contact, which shows
        /// users with several numbers a thread for each.
        key: OneOf<ConversationKey>;
    },
    section! {
        /// How records are identified.
        "routing.ids", |routing: RoutingSettings| routing.ids;
        /// Ids of messages, conversations and contacts: numbers counted up, as Laravel has them, or ULIDs, which
        /// cannot be guessed (advised with public channels).
        kind: OneOf<IdKind>;
        /// How user ids are written in JSON: as a number when they look like one, or always as a string.
        user_json: OneOf<UserJson>;
    },
    section! {
        /// How events are called.
        "routing.events", |routing: RoutingSettings| routing.events;
        /// Put before event names. The default suits Echo's `listen('MessageReceived')`; `""` sends bare names,
        /// for `listen('.MessageReceived')` and pusher-js. Dots count as backslashes.
        namespace: Namespace;
        /// Other names for events, as `["MessageSent=SmsSent"]`, both without the namespace.
        rename: Renames;
    },
    section! {
        /// Where events go.
        "routing.channels", |routing: RoutingSettings| routing.channels;
        /// `"public"`: `user.<id>` and `messenger.<id>`. `"private"`: the same behind `private-`, authorised by
        /// the portal. `"both"`: twice the traffic, for a migration.
        mode: OneOf<ChannelMode>;
        /// Anyone with the app key, which is in the page's source, can subscribe to public channels and read
        /// what they carry. `true` says that you know, and ends the warning at start.
        public_acknowledged: Switch;
        /// Whether public `user.*` and `messenger.*` channels are refused unless the connection signed in
        /// (`pusher:signin`) as that user.
        authenticated_public: Switch;
    },
    section! {
        /// What sending may take.
        "routing.send", |routing: RoutingSettings| routing.send;
        /// How long the answer to a send waits for the carrier's; then it says `sending`. Decides nothing else.
        wait: Time<0, { 30 * SECOND }>;
        /// Messages that one user may send in a minute.
        user_rate: Limit<NonZeroU32>;
        /// Messages that an app may send in a second.
        app_rate: Limit<NonZeroU32>;
    },
    section! {
        /// Events to browsers.
        "routing.broadcast", |routing: RoutingSettings| routing.broadcast;
        /// Age from which an event that a crash left behind is no longer sent: clients reload when they
        /// reconnect.
        max_age: Time<SECOND, DAY>;
    },
    section! {
        /// What makes a messenger of it, between users of the portal; messages through the carrier have none of it.
        "routing.features", |routing: RoutingSettings| routing.features;
        /// Whether they see each other type.
        typing: Switch;
        /// Whether senders learn that a message was read.
        read_receipts: Switch;
        /// Whether users learn that a contact is online.
        contact_presence: Switch;
        /// Time without a connection after which a user counts as offline; outlasts a change of the page.
        offline_grace: Time<0, HOUR>;
        /// How long a message may be edited, or deleted for both sides; `"0s"`: never.
        edit_window: Time<0, { 30 * DAY }>;
    },
    section! {
        /// Files of conversations, which are kept in the store and read through signed links.
        "routing.attachments", |routing: RoutingSettings| routing.attachments;
        /// Where browsers and the carrier reach this server, the beginning of links; `""`: as
        /// `carrier.telnyx.public_url`. Without either there are no attachments.
        public_url: PublicUrl;
        /// Size of one. Carriers are sure to take up to 600 KB.
        max_size: Size<1_000, 50_000_000>;
        /// Media types that are taken. None of them is ever run by a browser, whatever is in it.
        types: Texts;
        /// How long one is kept, and its link works.
        keep: Time<HOUR, { 3_650 * DAY }>;
        /// Time for a browser to bring one, once it is announced.
        upload_window: Time<SECOND, DAY>;
        /// Whether what the carrier brings is copied: its own links end within days. Only over `https`, and only from
        /// public addresses.
        copy_inbound: Switch;
        /// Whether copies are also fetched from private addresses and over `http`. For tests.
        allow_private_addresses: Switch;
    },
    section! {
        /// Who owns a phone number. `mode = "sql"` reads the portal's own tables and writes nothing there. Queries
        /// are one statement; parameters are bound, never pasted in; columns are read as text, so cast numbers
        /// (`CAST(user_id AS CHAR)`, `user_id::text`). Use an account that may only `SELECT`.
        "routing.directory", |routing: RoutingSettings| routing.directory;
        /// The server's own table, or the portal's database.
        mode: OneOf<DirectoryMode>;
        /// The portal's database, needed by `"sql"`. `url_file` reads it from a file. Passwords are never shown.
        url: PortalUrl;
        /// Gives `user_id`, `number` and `status` for `:number` (E.164), or for `:candidates`, its usual spellings.
        /// Needed by `"sql"`.
        find_number: Query;
        /// Gives `number` and `is_default` for `:user_id`. Needed by `"sql"`.
        own_numbers: Query;
        /// Gives the portal's `id` of a conversation for `:user_id` and `:contact` (E.164); `""`: ids come with
        /// requests and callbacks only.
        find_conversation: Query;
        /// Values of `status` that mean assigned. Case counts.
        assigned_status: Texts;
        /// Milliseconds a query may take; then requests are answered with 503.
        timeout_ms: Count<1, 60_000>;
        /// Most connections to the portal's database.
        pool: Count<1, 100>;
    },
    section! {
        /// Events to the portal's backend, signed as Pusher webhooks with the app's first secret.
        "routing.callbacks", |routing: RoutingSettings| routing.callbacks;
        /// Where they are posted to; `""`: nowhere.
        url: CallbackUrl;
        /// Time for an answer.
        timeout: Time<100, MINUTE>;
        /// How long an event is tried again before it is set aside.
        give_up_after: Time<SECOND, { 30 * DAY }>;
    },
    section! {
        /// Tokens with which a browser may use the API as one user, for demonstrations without a backend.
        "routing.tokens", |routing: RoutingSettings| routing.tokens;
        /// Whether `POST /user_tokens` gives any.
        enabled: Switch;
    },
    section! {
        /// The carrier. Message texts and numbers go there, so use `https` for anything but a test.
        "routing.carrier.telnyx", |routing: RoutingSettings| routing.telnyx;
        /// API key; without it messages to external numbers are refused with `messaging_disabled`. `api_key_file`
        /// reads it from a file. Empty counts as not set.
        api_key: ApiKey;
        /// The account's public key, which signs webhooks; two while it is being replaced. `""`: webhooks are
        /// answered with 503.
        public_key: PublicKeys;
        /// Where the carrier's API is.
        base_url: BaseUrl;
        /// Where the carrier reaches this server; makes the `webhook_url` of each message. `""`: messages have
        /// none, so webhooks come from the messaging profile and an answer that was lost stays unclear.
        public_url: PublicUrl;
        /// Messaging profile for messages of numbers without their own; `""`: the carrier takes the number's.
        messaging_profile_id: ProfileId;
        /// Whether requests carry `Idempotency-Key`, so that a repeated one is not sent twice.
        idempotency: OneOf<Idempotency>;
        /// When nobody knows whether the carrier took a message: `"retry_with_key"` repeats the same bytes under
        /// the same key, for 23 hours (without `idempotency` it holds instead); `"hold"` leaves it `unconfirmed`
        /// until a webhook or a person settles it; `"resend"` repeats it at the risk of sending it twice.
        on_unclear: OneOf<OnUnclear>;
        /// Age at which a message that could not be handed over fails as `expired`.
        valid_for: Time<SECOND, DAY>;
        /// Attempts after which it fails.
        max_attempts: Count<1, 100>;
        /// Time to connect.
        connect_timeout: Time<100, MINUTE>;
        /// Time for a whole call.
        timeout: Time<100, { 5 * MINUTE }>;
        /// Messages a second from one own number; the carrier's own limits depend on the kind of number.
        number_rate: Limit<NonZeroU32>;
        /// Calls of one app at the same time.
        concurrency: Count<1, 1_000>;
        /// `"strict"`: messages between two numbers go one at a time, in their order. `"relaxed"`: at once.
        ordering: OneOf<Ordering>;
    },
];
