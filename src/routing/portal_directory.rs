//! The portal's own tables as the directory.

use std::sync::Arc;

use super::Router;
use super::draft::Draft;
use super::error::{Code, RoutingError};
use super::send::Numbers;
use crate::apps::App;

/// Conversation ids that the portal has already.
#[derive(Clone, Debug, Default)]
pub struct KnownConversations {
    /// Of the sender.
    pub sender: Option<String>,
    /// Of the recipient, when internal.
    pub recipient: Option<String>,
}

#[derive(Default)]
pub struct PortalDirectories;

pub struct PortalDirectory;

impl Router {
    pub(super) fn portal_directory(&self, _app: &Arc<App>) -> Result<PortalDirectory, RoutingError> {
        Err(RoutingError::new(Code::DirectoryUnavailable, "not built"))
    }
}

impl PortalDirectory {
    pub async fn find_owner(
        &self,
        _number: &super::phone_number::PhoneNumber,
    ) -> Result<Option<super::directory::Owner>, RoutingError> {
        Err(RoutingError::new(Code::DirectoryUnavailable, "not built"))
    }

    pub async fn look_up(&self, _draft: &Draft) -> Result<Numbers, RoutingError> {
        Err(RoutingError::new(Code::DirectoryUnavailable, "not built"))
    }
}
