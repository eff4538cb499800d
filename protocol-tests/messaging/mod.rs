//! The message router, with the carrier's stand-in, real databases and real clients. Tests named `tNN_…`
//! are the numbered acceptance tests.

mod api;
mod attachments;
mod browsers;
mod carrier_settings;
mod carrier_webhooks;
mod crash;
mod durability;
mod features;
mod frozen;
mod inbound;
mod isolation;
mod keys;
mod later;
mod logs;
mod once_only;
mod operating;
mod own;
mod poolers;
mod portal_database;
mod reference;
mod routing;
mod search;
mod settings;
