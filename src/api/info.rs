//! The `info` parameter: which attributes of a channel are asked for.

use std::fmt::Write;

use super::ApiError;
use crate::apps::App;
use crate::hub::ChannelInfo;
use crate::protocol::channel::{ChannelKind, ChannelName};

/// As hosted Pusher says it, which the SDKs' own tests look for.
pub const NO_LIST: &str = "info should be a comma separated list of attributes";

/// Attributes asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Distinct users of a presence channel.
    pub user_count: bool,
    /// Connections.
    pub subscription_count: bool,
    /// The last event of a cache channel.
    pub cache: bool,
}

impl Info {
    /// Reads attribute names.
    ///
    /// # Errors
    /// 400 for an unknown one.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, ApiError> {
        let mut info = Self::default();
        for name in names.into_iter().map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                "cache" => info.cache = true,
                _ => {
                    let known = "user_count, subscription_count and cache";
                    return Err(ApiError::bad_request(format!(
                        "{NO_LIST}: unknown attribute '{name}', known are {known}"
                    )));
                }
            }
        }
        Ok(info)
    }

    /// Refuses attributes that the channel does not have.
    pub fn check(self, app: &App, channel: &ChannelName) -> Result<(), ApiError> {
        if self.user_count && channel.kind() != ChannelKind::Presence {
            return Err(ApiError::bad_request(
                "Cannot retrieve the user count unless the channel is a presence channel (user_count)",
            ));
        }
        if self.cache && !channel.is_cache() {
            return Err(ApiError::bad_request("cache is only available for cache channels"));
        }
        self.check_subscription_count(app)
    }

    /// Refuses `subscription_count` where the app has it switched off.
    pub fn check_subscription_count(self, app: &App) -> Result<(), ApiError> {
        if self.subscription_count && !app.settings.subscription_count {
            return Err(ApiError::bad_request(
                "subscription_count is not enabled for this app: set subscription_count = true",
            ));
        }
        Ok(())
    }

    /// The counts of one channel as members of a JSON object, without those that do not apply. A channel with
    /// nobody on it has counts of zero.
    pub fn counts(self, app: &App, channel: &ChannelName, info: &ChannelInfo) -> String {
        let mut members = String::new();
        if self.user_count && channel.kind() == ChannelKind::Presence {
            let _ = write!(members, r#""user_count":{}"#, info.users);
        }
        if self.subscription_count && app.settings.subscription_count {
            let comma = if members.is_empty() { "" } else { "," };
            let _ = write!(members, r#"{comma}"subscription_count":{}"#, info.subscribers);
        }
        members
    }
}
