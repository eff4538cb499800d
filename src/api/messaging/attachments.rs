//! `POST /attachments`: announces a file; the answer says where the page brings it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::fields::whole;
use crate::routing::RoutingError;
use crate::routing::attachments::{AttachmentJson, NewAttachment, Upload};
use crate::routing::draft::{IdRef, UserRef, check_socket_id, invalid};

/// A file that is to come.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AnnounceRequest {
    /// Who brings it.
    user_id: Option<UserRef>,
    /// The user's conversation that it is for.
    conversation_id: Option<IdRef>,
    /// What it is called, with its ending.
    name: Option<String>,
    /// Its media type, one of `routing.attachments.types`; empty or `application/octet-stream` if the browser does not know
    /// it, then the ending of `name` decides.
    content_type: Option<String>,
    /// Bytes, if known.
    #[serde(default, deserialize_with = "whole")]
    size: Option<i64>,
    /// The connection that must not get `AttachmentUploaded`.
    socket_id: Option<String>,
}

/// A file that is to come, and how.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AnnounceAnswer {
    /// As it will be; `url` works once it is there.
    attachment: AttachmentJson,
    /// The request that brings it.
    upload: Upload,
}

/// A file that is there.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AttachmentAnswer {
    /// It.
    pub attachment: AttachmentJson,
}

/// Announces a file.
pub async fn announce(caller: Caller, request: AnnounceRequest) -> Result<AnnounceAnswer, RoutingError> {
    let user_id = caller.user(request.user_id.as_ref())?;
    check_socket_id(request.socket_id.as_deref())?;
    let missing = |field: &'static str| invalid(field, &format!("{field} is missing"));
    let new = NewAttachment {
        user_id,
        conversation_id: request.conversation_id.ok_or_else(|| missing("conversation_id"))?.text(),
        name: request.name.ok_or_else(|| missing("name"))?,
        content_type: request.content_type.ok_or_else(|| missing("content_type"))?,
        size: request.size,
        socket_id: request.socket_id,
    };
    let Caller { router, app, .. } = caller;
    let (attachment, upload) = router.announce_attachment(app, new).await?;
    Ok(AnnounceAnswer { attachment, upload })
}
