//! Placeholders for methods of the router that are written elsewhere.
#![allow(missing_docs, clippy::unused_async)]

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::records::{Contact, Conversation, Message};
use super::{Code, Router, RoutingError};
use crate::apps::App;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteScope {
    Me,
    Everyone,
}

/// A number that wants no messages.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OptOut {
    /// E.164.
    pub number: String,
}

/// A callback that was given up.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FailedCallback {
    /// Identifies it.
    pub id: i64,
}

fn missing() -> RoutingError {
    RoutingError::new(Code::StorageUnavailable, "not built")
}

impl Router {
    pub async fn mark_read(
        &self,
        _app: Arc<App>,
        _user: String,
        _conversation_id: String,
        _up_to: Option<String>,
        _socket_id: Option<String>,
    ) -> Result<(Conversation, i64), RoutingError> {
        Err(missing())
    }

    pub async fn typing(
        &self,
        _app: Arc<App>,
        _user: String,
        _conversation_id: String,
        _typing: bool,
    ) -> Result<(), RoutingError> {
        Err(missing())
    }

    pub async fn edit(
        &self,
        _app: Arc<App>,
        _user: String,
        _message_id: String,
        _text: String,
        _socket_id: Option<String>,
    ) -> Result<(Message, Conversation), RoutingError> {
        Err(missing())
    }

    pub async fn delete(
        &self,
        _app: Arc<App>,
        _user: String,
        _message_id: String,
        _scope: DeleteScope,
    ) -> Result<(Message, Conversation), RoutingError> {
        Err(missing())
    }

    pub async fn cancel(
        &self,
        _app: Arc<App>,
        _user: String,
        _message_id: String,
    ) -> Result<(Message, Conversation), RoutingError> {
        Err(missing())
    }

    pub async fn opt_outs(&self, _app: Arc<App>) -> Result<Vec<OptOut>, RoutingError> {
        Err(missing())
    }

    pub async fn add_opt_out(&self, _app: Arc<App>, _number: String) -> Result<Vec<OptOut>, RoutingError> {
        Err(missing())
    }

    pub async fn remove_opt_out(&self, _app: Arc<App>, _number: String) -> Result<Vec<OptOut>, RoutingError> {
        Err(missing())
    }

    pub async fn name_contact(
        &self,
        _app: Arc<App>,
        _user: String,
        _number: String,
        _name: Option<String>,
    ) -> Result<Contact, RoutingError> {
        Err(missing())
    }

    pub async fn failed_callbacks(
        &self,
        _app: Arc<App>,
        _limit: i64,
        _after: Option<i64>,
    ) -> Result<Vec<FailedCallback>, RoutingError> {
        Ok(Vec::new())
    }

    pub async fn resend_callbacks(
        &self,
        _app: Arc<App>,
        _ids: Option<Vec<i64>>,
    ) -> Result<u64, RoutingError> {
        Ok(0)
    }
}
