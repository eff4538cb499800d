//! The message router, with the carrier's stand-in, real databases and real clients. Tests named `tNN_…`
//! are the numbered acceptance tests.

/// Makes a test of each for either store, of a setup: `each_store! { Router::setup() => one; another; }`.
macro_rules! each_store {
    ($setup:expr => $($test:ident;)+) => {$(
        mod $test {
            use crate::harness::databases::postgres;
            use crate::harness::messaging::Router;
            use crate::harness::on_a_large_stack;

            #[test]
            fn sqlite() {
                on_a_large_stack(async || super::$test($setup).await);
            }

            #[test]
            fn postgresql() {
                on_a_large_stack(async || {
                    let database = postgres().await;
                    super::$test($setup.store(&database.url)).await;
                });
            }
        }
    )+};
}

mod api;
mod attachments;
mod browsers;
mod callbacks;
mod carrier_settings;
mod carrier_webhooks;
mod clocks;
mod crash;
mod durability;
mod features;
mod frozen;
mod groups;
mod inbound;
mod inbound_media;
mod isolation;
mod keys;
mod later;
mod logs;
mod numbers;
mod once_only;
mod operating;
mod own;
mod ownership;
mod poolers;
mod portal_database;
mod put_off;
mod reference;
mod reports;
mod routing;
mod search;
mod settings;
mod texts;
mod transfers;
mod unreported;
mod upgrade;
mod writes;
