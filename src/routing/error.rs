//! Why the router refuses something.

use std::borrow::Cow;
use std::time::Duration;

use crate::storage::StorageError;

/// A refusal: nothing was stored or sent. Told as `{"error":{"code","message","field"}}`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RoutingError {
    /// What kind.
    pub code: Code,
    /// A sentence that says what to change; holds no phone number and no secret.
    pub message: String,
    /// The field of the request that is wrong.
    pub field: Option<Cow<'static, str>>,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

/// Gives [`Code`] with each code's text and HTTP status from one list.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:literal;)+) => {
        /// The error codes of the messaging API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// As it stands in answers.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The answer's HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            /// When it is given.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

codes! {
    /// The body is not a JSON object.
    BadJson = "bad_json", 400;
    /// A signed query has a parameter twice, or one that holds others.
    BadQuery = "bad_query", 400;
    /// The request's signature is missing or wrong.
    BadSignature = "bad_signature", 401;
    /// The request's timestamp is more than 600 s off.
    StaleTimestamp = "stale_timestamp", 401;
    /// `from` is not a number assigned to the user.
    FromNotOwned = "from_not_owned", 403;
    /// External messages can't be sent: no carrier is configured, or the app is disabled.
    MessagingDisabled = "messaging_disabled", 403;
    /// The recipient opted out of messages.
    OptedOut = "opted_out", 403;
    /// No such conversation, message or number of this user, or no such path.
    NotFound = "not_found", 404;
    /// The path has another method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", 408;
    /// The idempotency key was used for another request.
    IdempotencyMismatch = "idempotency_mismatch", 409;
    /// No address for links to attachments is configured (`attachments.public_url`).
    AttachmentsDisabled = "attachments_disabled", 409;
    /// The message can't be changed (any more).
    NotEditable = "not_editable", 409;
    /// The message can't be cancelled (any more).
    NotCancellable = "not_cancellable", 409;
    /// The message did not fail, so it can't be tried again.
    NotRetryable = "not_retryable", 409;
    /// More than one user has this number in the portal's tables.
    DirectoryAmbiguous = "directory_ambiguous", 409;
    /// The directory is the portal's and is changed there.
    DirectoryReadOnly = "directory_read_only", 409;
    /// The body is too large.
    TooLarge = "too_large", 413;
    /// Attachments of this type are not taken.
    TypeNotAllowed = "type_not_allowed", 415;
    /// A field is missing, or has a value that it can't have.
    InvalidField = "invalid_field", 422;
    /// A text in place of a number is no phone number.
    InvalidNumber = "invalid_number", 422;
    /// The recipient is the sender.
    SelfMessage = "self_message", 422;
    /// The user has several numbers, and none is the obvious one.
    FromRequired = "from_required", 422;
    /// The message has neither text nor media.
    NoContent = "no_content", 422;
    /// The message of `reply_all` has no group, or one that the carrier does not answer.
    GroupNotPossible = "group_not_possible", 422;
    /// The text is too long.
    TooLong = "too_long", 422;
    /// The message has too many media.
    TooManyMedia = "too_many_media", 422;
    /// The recipient is an own number without a user.
    RecipientUnassigned = "recipient_unassigned", 422;
    /// The user, or the app, makes too many messages, calls, changes, conversations or files, or there is no memory for a
    /// file now.
    RateLimited = "rate_limited", 429;
    /// The server can't find out which user has a number.
    DirectoryUnavailable = "directory_unavailable", 503;
    /// The message store can't be written.
    StorageUnavailable = "storage_unavailable", 503;
    /// The message store is full (`store.max_size`, `store.min_free`): nothing new is taken, and what was accepted goes on.
    StoreFull = "store_full", 507;
}

impl RoutingError {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, retry_after: None }
    }

    /// With the field that is wrong.
    #[must_use]
    pub fn at(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// No such record of this user.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("this user has no such {what}"))
    }

    /// Over a rate.
    pub fn rate_limited(message: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(Code::RateLimited, message) }
    }
}

impl From<StorageError> for RoutingError {
    fn from(error: StorageError) -> Self {
        tracing::error!(%error, "an operation of the message store failed");
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(Code::StorageUnavailable, "the message store is not available, try again")
        }
    }
}
