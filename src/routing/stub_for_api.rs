//! Placeholders for methods of the router that are written elsewhere.
#![allow(missing_docs, clippy::unused_async)]

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Router, RoutingError};
use crate::apps::App;

/// A callback that was given up.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FailedCallback {
    /// Identifies it.
    pub id: i64,
}

impl Router {
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
