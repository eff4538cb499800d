//! Files that a page brings: the portal gets an address for one, the page puts it there.

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use ulid::Ulid;

use super::records::State;
use super::{Attachment, AttachmentJson, names, public_url};
use crate::apps::App;
use crate::config::{AttachmentSettings, media_type};
use crate::outbox::About;
use crate::routing::Router;
use crate::routing::draft::invalid;
use crate::routing::error::{Code, RoutingError};
use crate::routing::events::{self, Audience, Events, micros};
use crate::routing::json::carbon;
use crate::routing::records::Conversation;
use crate::storage;

/// Longest name, in characters.
const MAX_NAME: usize = 200;

/// A file that is to come.
#[derive(Clone, Debug)]
pub struct NewAttachment {
    /// Who brings it.
    pub user_id: String,
    /// The user's conversation.
    pub conversation_id: String,
    /// What it is called.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// Bytes, if known.
    pub size: Option<i64>,
    /// The connection that must not get the event.
    pub socket_id: Option<String>,
}

/// How a file is brought.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Upload {
    /// `PUT`.
    pub method: &'static str,
    /// Where to; signed, for this one file.
    pub url: String,
    /// Headers that the request needs.
    pub headers: UploadHeaders,
    /// Until when.
    pub expires_at: String,
}

/// Headers of an upload.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UploadHeaders {
    /// The file's media type.
    #[serde(rename = "content-type")]
    pub content_type: String,
}

/// A file with its contents.
#[derive(Clone, Debug)]
pub struct Content {
    /// What it is called.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// The bytes.
    pub bytes: Bytes,
    /// Seconds for which it may be kept elsewhere.
    pub max_age: i64,
}

/// Contents with their share of the memory, which is free again when the last byte has left.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Router {
    /// Announces a file; answers it and how it is brought.
    ///
    /// # Errors
    /// `attachments_disabled`, `not_found`, `type_not_allowed`, `too_large`, `invalid_field`.
    pub async fn announce_attachment(
        &self,
        app: Arc<App>,
        new: NewAttachment,
    ) -> Result<(AttachmentJson, Upload), RoutingError> {
        let settings = &app.settings.routing.attachments;
        if public_url(&app.settings.routing).is_none() {
            let message = "links to attachments lead nowhere: set routing.attachments.public_url";
            return Err(RoutingError::new(Code::AttachmentsDisabled, message));
        }
        let name = checked_name(&new.name)?;
        let content_type = type_to_upload(&new.content_type, &name, settings)?;
        if new.size.is_some_and(|size| size <= 0) {
            return Err(invalid("size", "size must be a number of bytes above 0"));
        }
        check_size(&app, new.size.unwrap_or(0))?;
        let now = storage::now();
        let attachment = Attachment {
            id: 0,
            public_id: Ulid::generate().to_string(),
            app_id: app.settings.id.clone(),
            user_id: new.user_id.clone(),
            conversation_id: 0,
            message_id: None,
            source_url: None,
            name,
            content_type,
            size: new.size,
            state: State::Awaited,
            attempts: 0,
            not_before: now + micros(settings.upload_window),
            except: new.socket_id.clone(),
            created_at: now,
            expires_at: now + micros(settings.keep),
        };
        let app_id = app.settings.id.clone();
        let attachment = self
            .database()
            .write(move |tx| {
                let conversation = Conversation::find(tx, &app_id, &new.user_id, &new.conversation_id)?;
                let conversation = conversation
                    .ok_or_else(|| RoutingError::not_found("conversation").at("conversation_id"))?;
                let mut attachment = attachment.clone();
                attachment.conversation_id = conversation.id;
                attachment.insert(tx)?;
                Ok::<_, RoutingError>(attachment)
            })
            .await?;
        let settings = &app.settings.routing;
        let upload = Upload {
            method: "PUT",
            url: self.upload_url(&attachment, settings),
            headers: UploadHeaders { content_type: attachment.content_type.clone() },
            expires_at: carbon(attachment.not_before),
        };
        Ok((attachment.json(self, settings), upload))
    }

    /// Takes a file in and tells the conversation. A repeat of what is there changes nothing.
    ///
    /// # Errors
    /// `not_found`; `type_not_allowed`, `too_large` when it is not what was announced.
    pub async fn take_attachment(
        &self,
        app: Arc<App>,
        public_id: String,
        content_type: Option<String>,
        content: Bytes,
    ) -> Result<AttachmentJson, RoutingError> {
        let router = self.clone();
        self.database()
            .write(move |tx| {
                let now = storage::now();
                let settings = &app.settings.routing;
                let found = Attachment::find_to_change(tx, &app.settings.id, &public_id)?;
                let mut attachment = found.ok_or_else(|| RoutingError::not_found("attachment"))?;
                match attachment.state {
                    State::Ready => return Ok(attachment.json(&router, settings)),
                    State::Awaited => {}
                    State::Fetching | State::Failed => return Err(RoutingError::not_found("attachment")),
                }
                let announced = media_type::stored(&attachment.content_type);
                let content_type = content_type.as_deref().and_then(media_type::stored);
                if content_type.is_some_and(|content_type| Some(content_type) != announced) {
                    let message = format!("this attachment was announced as {}", attachment.content_type);
                    return Err(RoutingError::new(Code::TypeNotAllowed, message));
                }
                let size = i64::try_from(content.len()).unwrap_or(i64::MAX);
                if content.is_empty() || attachment.size.is_some_and(|announced| announced != size) {
                    return Err(invalid(
                        "size",
                        "the attachment has another size than was announced, or none",
                    ));
                }
                check_size(&app, size)?;
                attachment.fill(tx, &content)?;
                let conversation = Conversation::by_row(tx, attachment.conversation_id)?;
                let told = attachment.json(&router, settings);
                let mut events = Events::new(&app);
                let about = About { message: None, conversation: Some(conversation.id) };
                let data = json!({
                    "conversation_id": events::conversation_id(&conversation),
                    "attachment": told,
                });
                events.add_about(
                    about,
                    Audience::Conversation(&conversation),
                    "AttachmentUploaded",
                    &data,
                )?;
                let except = attachment.except.as_deref();
                router.publish(tx, &app, &conversation.thread_id, events, except, now)?;
                Ok(told)
            })
            .await
    }

    /// A file with its contents.
    ///
    /// # Errors
    /// `not_found`, `rate_limited`.
    pub async fn attachment(&self, app: &App, public_id: String) -> Result<Content, RoutingError> {
        let (app_id, now) = (app.settings.id.clone(), storage::now());
        let room = self.make_room(app).await?;
        let read = self.database().read(move |tx| Attachment::read(tx, &app_id, &public_id, now)).await?;
        let (attachment, bytes) = read.ok_or_else(|| RoutingError::not_found("attachment"))?;
        Ok(Content {
            max_age: (attachment.expires_at - now) / 1_000_000,
            name: attachment.name,
            content_type: attachment.content_type,
            bytes: Bytes::from_owner(Held { bytes, _room: room }),
        })
    }
}

/// The name under which a file is kept, made of the one that it is announced with.
fn checked_name(announced: &str) -> Result<String, RoutingError> {
    let is_possible =
        announced.trim().chars().count() <= MAX_NAME && !announced.trim().contains(char::is_control);
    names::safe(announced).filter(|_| is_possible).ok_or_else(|| {
        let message = format!(
            "name must have 1 to {MAX_NAME} characters, none of them a control character, and not only dots and \
             characters that can't be seen"
        );
        invalid("name", &message)
    })
}

/// The type of a file that is announced, if it is taken. Browsers that do not know one say so; then the name tells.
fn type_to_upload(
    content_type: &str,
    name: &str,
    settings: &AttachmentSettings,
) -> Result<String, RoutingError> {
    let of_name = || media_type::of_name(name).map(str::to_owned);
    let content_type = media_type::stored(content_type).or_else(of_name);
    content_type.filter(|content_type| settings.types.contains(content_type)).ok_or_else(|| {
        let message = format!("only these types are taken: {}", settings.types.join(", "));
        RoutingError::new(Code::TypeNotAllowed, message).at("content_type")
    })
}

fn check_size(app: &App, size: i64) -> Result<(), RoutingError> {
    let most = app.settings.routing.attachments.max_size;
    if usize::try_from(size).is_ok_and(|size| size <= most) {
        return Ok(());
    }
    let message = format!("an attachment has at most {most} bytes");
    Err(RoutingError::new(Code::TooLarge, message).at("size"))
}
