//! switchboard: a Pusher Channels server with an embedded message router.

pub mod admin;
pub mod api;
pub mod apps;
pub mod cli;
pub mod config;
pub mod hub;
pub mod protocol;
pub mod server;
