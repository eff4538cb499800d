//! All calls: the one list that dispatch and documentation are made from.

use hyper::Method;
use hyper::header::HeaderValue;

use super::call::{Access, Call, written};
use super::fields::{Done, NoFields, UserRequest};
use super::{attachments, conversations, inbound, messages, operations, phone_numbers, user_tokens};
use crate::routing::draft::SendRequest;
use crate::routing::numbers::Lookup;
use crate::routing::{Code, RoutingError};

/// Errors that every call may have.
pub const COMMON: &[Code] = &[
    Code::BadSignature,
    Code::StaleTimestamp,
    Code::MessagingDisabled,
    Code::InvalidField,
    Code::StorageUnavailable,
];

/// Errors that every POST may have besides.
pub const OF_BODIES: &[Code] = &[Code::BadJson, Code::RequestTimeout, Code::TooLarge];

/// Errors that every call with a user token may have.
pub const OF_TOKENS: &[Code] = &[Code::RateLimited];

/// Gives the table; a line is the summary, the method, the path, the function with its request and answer,
/// who may make the call, and its own errors.
macro_rules! calls {
    ($($(#[doc = $doc:literal])+
    $method:ident $path:literal $run:path: $request:ty => $answer:ty, $access:ident [$($code:ident)*];)+) => {
        /// Every call.
        pub static CALLS: &[Call] = &[$(Call {
            method: Method::$method,
            path: $path,
            summary: concat!($($doc),+),
            access: Access::$access,
            codes: &[$(Code::$code),*],
            request: |schemas| schemas.subschema_for::<$request>(),
            answer: |schemas| schemas.subschema_for::<$answer>(),
            run: |caller, input| Box::pin(async move {
                let request: $request = input.read()?;
                written::<$answer>(&$run(caller, request).await?)
            }),
        }),+];
    };
}

calls! {
    /// Sends a message: to another user of the portal directly, to any other number through the carrier.
    POST "/messages" messages::send: SendRequest => messages::SendAnswer, User
        [FromNotOwned OptedOut NotFound IdempotencyMismatch DirectoryAmbiguous InvalidNumber SelfMessage
         FromRequired NoContent GroupNotPossible TooLong TooManyMedia RecipientUnassigned DirectoryUnavailable StoreFull];
    /// Finds or makes a conversation, and sends a message in it if text or media are given.
    POST "/conversations" conversations::start: SendRequest => conversations::StartAnswer, User
        [FromNotOwned OptedOut NotFound IdempotencyMismatch DirectoryAmbiguous InvalidNumber SelfMessage
         FromRequired GroupNotPossible TooLong TooManyMedia RecipientUnassigned DirectoryUnavailable StoreFull];
    /// Lists a user's conversations, the most active first.
    GET "/conversations" conversations::list: conversations::ConversationsRequest => conversations::ConversationList, User [];
    /// Shows a conversation.
    GET "/conversations/{id}" conversations::show: UserRequest => conversations::ConversationAnswer, User
        [NotFound];
    /// Lists a conversation's messages, newest first.
    GET "/conversations/{id}/messages" conversations::messages:
        conversations::MessagesRequest => conversations::MessageList, User [NotFound];
    /// Marks a conversation's messages as read, and shows that to the sender of internal ones.
    POST "/conversations/{id}/read" conversations::read:
        conversations::ReadRequest => conversations::ReadAnswer, User [NotFound];
    /// Shows the other side of an internal conversation that the user types.
    POST "/conversations/{id}/typing" conversations::typing: conversations::TypingRequest => Done, User
        [NotFound];
    /// Shows a message.
    GET "/messages/{id}" messages::show: UserRequest => messages::MessageAnswer, User [NotFound];
    /// Explains why a message went to a portal user or to the carrier.
    GET "/messages/{id}/decision" messages::decision: UserRequest => messages::DecisionAnswer, Portal [NotFound];
    /// Changes the text of an internal message, for both sides.
    POST "/messages/{id}/edit" messages::edit: messages::EditRequest => messages::MessageAnswer, User
        [NotFound NotEditable NoContent TooLong StoreFull];
    /// Deletes a message, for the user alone or, an internal one, for both sides.
    POST "/messages/{id}/delete" messages::delete: messages::DeleteRequest => messages::MessageAnswer, User
        [NotFound NotEditable];
    /// Hands a failed or unconfirmed message to the carrier again.
    POST "/messages/{id}/retry" messages::retry: UserRequest => messages::MessageAnswer, User
        [FromNotOwned OptedOut NotFound NotRetryable];
    /// Takes back a message that the carrier does not have yet.
    POST "/messages/{id}/cancel" messages::cancel: UserRequest => messages::MessageAnswer, User
        [NotFound NotCancellable];
    /// Announces a file for a conversation, which the page then uploads with a PUT.
    POST "/attachments" attachments::announce: attachments::AnnounceRequest => attachments::AnnounceAnswer, User
        [NotFound AttachmentsDisabled TypeNotAllowed StoreFull];
    /// Lists the directory's phone numbers.
    GET "/phone_numbers" phone_numbers::list: phone_numbers::PhoneNumbersRequest => phone_numbers::PhoneNumberList, Portal
        [DirectoryReadOnly];
    /// Adds or changes a phone number, or a list of them, all or none.
    POST "/phone_numbers" phone_numbers::save: phone_numbers::SaveRequest => phone_numbers::SaveAnswer, Portal
        [InvalidNumber DirectoryReadOnly];
    /// Gives a phone number to a user.
    POST "/phone_numbers/assign" phone_numbers::assign:
        phone_numbers::AssignRequest => phone_numbers::NumberAnswer, Portal
        [NotFound InvalidNumber DirectoryReadOnly];
    /// Takes a phone number out of use and from its user.
    POST "/phone_numbers/release" phone_numbers::release:
        phone_numbers::NumberRequest => phone_numbers::NumberAnswer, Portal
        [NotFound InvalidNumber DirectoryReadOnly];
    /// Takes a phone number out of use for a while; it stays with its user.
    POST "/phone_numbers/suspend" phone_numbers::suspend:
        phone_numbers::NumberRequest => phone_numbers::NumberAnswer, Portal
        [NotFound InvalidNumber DirectoryReadOnly];
    /// Answers whether a message to a number would be internal.
    POST "/phone_numbers/lookup" phone_numbers::look_up: phone_numbers::NumberRequest => Lookup, Portal
        [InvalidNumber DirectoryAmbiguous DirectoryUnavailable];
    /// Gives a user's contact a name.
    POST "/contacts" operations::name_contact: operations::NameRequest => operations::ContactAnswer, Portal
        [InvalidNumber];
    /// Lists the numbers that opted out of messages.
    GET "/opt_outs" operations::opt_outs: NoFields => operations::OptOutList, Portal [];
    /// Records that a number opted out of messages.
    POST "/opt_outs" operations::add_opt_out: operations::OptOutRequest => operations::OptOutList, Portal
        [InvalidNumber];
    /// Removes the opt-out of a number.
    POST "/opt_outs/remove" operations::remove_opt_out:
        operations::OptOutRequest => operations::OptOutList, Portal [InvalidNumber];
    /// Lists messages from outside to numbers without a user, the oldest first.
    GET "/unrouted_messages" inbound::unrouted: inbound::UnroutedRequest => inbound::UnroutedList, Portal [];
    /// Lists webhooks of the carrier that had no effect, the oldest first.
    GET "/carrier_events" inbound::events: inbound::CarrierEventsRequest => inbound::CarrierEventList, Portal [];
    /// Shows a webhook of the carrier that had no effect, with its whole body.
    GET "/carrier_events/{id}" inbound::event: NoFields => inbound::CarrierEventAnswer, Portal [NotFound];
    /// Processes a webhook of the carrier again that the server set aside.
    POST "/carrier_events/{id}/retry" inbound::retry: inbound::RetryRequest => Done, Portal [NotFound];
    /// Lists the callbacks to the portal that the server gave up.
    GET "/callbacks" operations::callbacks: operations::CallbacksRequest => operations::CallbackList, Portal [];
    /// Sends callbacks again that the server gave up.
    POST "/callbacks/resend" operations::resend: operations::ResendRequest => operations::ResendAnswer, Portal [];
    /// Shows the state of directory, carrier and outbox.
    GET "/status" operations::status: NoFields => crate::routing::Overview, Portal [];
    /// Makes a token with which a browser makes calls for one user, for demonstrations without a backend.
    POST "/user_tokens" user_tokens::create: user_tokens::TokenRequest => user_tokens::TokenAnswer, Portal [];
    /// Ends all tokens that a user has, at once.
    POST "/user_tokens/revoke" user_tokens::revoke: UserRequest => Done, Portal [];
}

/// The call of a method and path, and what stands for `{id}`.
///
/// # Errors
/// `not_found`, `method_not_allowed`.
pub fn find<'a>(method: &Method, path: &'a [String]) -> Result<(&'static Call, &'a str), RoutingError> {
    let mut is_known = false;
    for call in CALLS {
        if let Some(id) = fits(call.path, path) {
            is_known = true;
            if call.method == *method {
                return Ok((call, id));
            }
        }
    }
    Err(if is_known {
        let message = format!("this path has another method: {}", allowed_methods(path));
        RoutingError::new(Code::MethodNotAllowed, message)
    } else {
        RoutingError::new(Code::NotFound, "there is no such call below messaging, see /openapi.json")
    })
}

/// The methods of a path, for the header `allow`.
pub fn allowed(path: &[String]) -> HeaderValue {
    HeaderValue::from_static(allowed_methods(path))
}

fn allowed_methods(path: &[String]) -> &'static str {
    let has = |method| CALLS.iter().any(|call| call.method == method && fits(call.path, path).is_some());
    match (has(Method::GET), has(Method::POST)) {
        (true, true) => "GET, POST",
        (true, false) => "GET",
        (false, _) => "POST",
    }
}

/// What stands for `{id}`, if the path has this pattern; empty when the pattern has none.
fn fits<'a>(pattern: &str, path: &'a [String]) -> Option<&'a str> {
    let mut id = "";
    let mut segments = path.iter();
    for wanted in pattern.split('/').skip(1) {
        let segment = segments.next()?;
        match wanted {
            "{id}" if !segment.is_empty() => id = segment,
            "{id}" => return None,
            _ if wanted == segment => {}
            _ => return None,
        }
    }
    segments.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_finds_its_call() {
        for call in CALLS {
            let path: Vec<String> =
                call.path.replace("{id}", "a/b").split('/').skip(1).map(str::to_owned).collect();
            let path = if call.path.contains("{id}") {
                call.path.split('/').skip(1).map(|part| part.replace("{id}", "a/b")).collect()
            } else {
                path
            };
            let (found, id) = find(&call.method, &path).expect(call.path);
            assert_eq!((found.path, &found.method), (call.path, &call.method));
            assert_eq!(id, if call.path.contains("{id}") { "a/b" } else { "" });
            assert!(call.summary.trim().ends_with('.'), "{}", call.path);
        }
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let find = |method, path: &str| {
            let path: Vec<String> = path.split('/').map(str::to_owned).collect();
            find(&method, &path).map(|(call, _)| call.path).map_err(|error| error.code)
        };
        assert_eq!(find(Method::GET, "nowhere"), Err(Code::NotFound));
        assert_eq!(find(Method::GET, "conversations/"), Err(Code::NotFound));
        assert_eq!(find(Method::GET, "messages/1/edit/2"), Err(Code::NotFound));
        assert_eq!(find(Method::PUT, "messages/1"), Err(Code::MethodNotAllowed));
        assert_eq!(find(Method::GET, "messages"), Err(Code::MethodNotAllowed));
        assert_eq!(find(Method::GET, "messages/7"), Ok("/messages/{id}"));
        let methods = |path: &str| allowed_methods(&[path.to_owned()]);
        assert_eq!(
            [methods("messages"), methods("status"), methods("opt_outs")],
            ["POST", "GET", "GET, POST"]
        );
    }

    #[test]
    fn browsers_can_not_change_the_directory() {
        for call in CALLS.iter().filter(|call| call.access == Access::User) {
            assert!(
                ["/messages", "/conversations", "/attachments"]
                    .iter()
                    .any(|begin| call.path.starts_with(begin)),
                "{}",
                call.path
            );
        }
    }
}
