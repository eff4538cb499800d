//! Files that a page brings: the portal gets an address for one, the page puts it there.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use ulid::Ulid;

use super::parts::Spool;
use super::records::State;
use super::room::{Held, Parties};
use super::{Attachment, AttachmentJson, PATIENCE, names, public_url};
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

/// A file that is being brought.
pub struct Uploading {
    router: Router,
    app: Arc<App>,
    attachment: Attachment,
    spool: Spool,
    parties: Parties,
    /// The room of what is in memory.
    held: Option<Held>,
}

/// What an upload finds.
pub enum UploadStart {
    /// The file is awaited.
    Begun(Box<Uploading>),
    /// It is there already: an answer was lost.
    Repeated(AttachmentJson),
}

impl Router {
    /// Announces a file; answers it and how it is brought.
    ///
    /// # Errors
    /// `attachments_disabled`, `not_found`, `type_not_allowed`, `too_large`, `invalid_field`, `rate_limited`, `store_full`.
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
        self.check_room_in_store()?;
        self.limits().take_file(&app, &new.user_id)?;
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
            file: None,
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

    /// Looks whether a file is awaited, before any of it is read.
    ///
    /// # Errors
    /// `not_found`, `store_full`; `type_not_allowed` when it is not what was announced.
    pub async fn begin_upload(
        &self,
        app: Arc<App>,
        public_id: &str,
        content_type: Option<&str>,
        address: IpAddr,
    ) -> Result<UploadStart, RoutingError> {
        let (app_id, id) = (app.settings.id.clone(), public_id.to_owned());
        let found = self.database().read(move |tx| Attachment::find(tx, &app_id, &id)).await?;
        let attachment = found.ok_or_else(|| RoutingError::not_found("attachment"))?;
        match attachment.state {
            State::Ready => return Ok(UploadStart::Repeated(attachment.json(self, &app.settings.routing))),
            State::Awaited => {}
            State::Fetching | State::Failed => return Err(RoutingError::not_found("attachment")),
        }
        self.check_room_in_store()?;
        let announced = media_type::stored(&attachment.content_type);
        let content_type = content_type.and_then(media_type::stored);
        if content_type.is_some_and(|content_type| Some(content_type) != announced) {
            let message = format!("this attachment was announced as {}", attachment.content_type);
            return Err(RoutingError::new(Code::TypeNotAllowed, message));
        }
        let Attachment { app_id, user_id, public_id, .. } = &attachment;
        let parties = Parties::of_link(app_id, user_id, public_id, address);
        let spool = self.spool();
        Ok(UploadStart::Begun(Box::new(Uploading {
            router: self.clone(),
            app,
            attachment,
            spool,
            parties,
            held: None,
        })))
    }
}

impl Uploading {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// `rate_limited`, `store_full`, `too_large`, `invalid_field`: more than was announced.
    pub async fn add(&mut self, bytes: Bytes) -> Result<(), RoutingError> {
        let size = self.spool.size() + bytes.len();
        check_size(&self.app, size as i64)?;
        if self.attachment.size.is_some_and(|announced| announced < size as i64) {
            return Err(another_size());
        }
        self.router.check_room_in_store()?;
        self.router.limits().take_bytes(&self.app, &self.attachment.user_id, bytes.len())?;
        let more = self.router.room().take(&self.parties, bytes.len(), PATIENCE).await?;
        if self.spool.add(bytes).await? {
            self.held = Some(more);
        } else {
            match &mut self.held {
                Some(held) => held.join(more),
                held => *held = Some(more),
            }
        }
        Ok(())
    }

    /// The file is complete: stores it and tells the conversation. A repeat of what is there changes nothing.
    ///
    /// # Errors
    /// `not_found`; `invalid_field`: it has another size than was announced.
    pub async fn finish(mut self) -> Result<AttachmentJson, RoutingError> {
        let last = self.spool.last_part();
        let (router, app, id) =
            (self.router.clone(), Arc::clone(&self.app), self.attachment.public_id.clone());
        let (told, is_new) = router
            .clone()
            .database()
            .write(move |tx| {
                let (now, settings) = (storage::now(), &app.settings.routing);
                let found = Attachment::find_to_change(tx, &app.settings.id, &id)?;
                let mut attachment = found.ok_or_else(|| RoutingError::not_found("attachment"))?;
                match attachment.state {
                    State::Ready => return Ok((attachment.json(&router, settings), false)),
                    State::Awaited => {}
                    State::Fetching | State::Failed => return Err(RoutingError::not_found("attachment")),
                }
                if last.size == 0 || attachment.size.is_some_and(|announced| announced != last.size) {
                    return Err(another_size());
                }
                last.store(tx)?;
                attachment.not_before = now + micros(settings.attachments.upload_window);
                attachment.fill(tx, &last.file, last.size)?;
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
                Ok((told, true))
            })
            .await?;
        if is_new {
            self.spool.finish();
        }
        Ok(told)
    }
}

fn another_size() -> RoutingError {
    invalid("size", "the attachment has another size than was announced, or none")
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
