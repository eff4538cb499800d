//! Drives the real binary: raw WebSocket and raw HTTP for every rule and edge, real clients and SDKs for
//! the whole.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod admission;
mod batch;
mod cache;
mod client_events;
mod clients;
mod configuration;
mod documentation;
mod drain;
mod echo;
mod encrypted;
mod examples;
mod frames;
mod fuzz_smoke;
mod handshake;
mod harness;
mod http_auth;
mod http_edges;
mod http_keep_alive;
mod idempotency;
mod keepalive;
mod laravel;
mod limits;
mod logging;
mod memory;
mod messaging;
mod metrics;
mod numbers_import;
mod order;
mod origins_tls;
mod portal;
mod presence;
mod proxies;
mod proxy_paths;
mod queries;
mod quotas;
mod regression;
mod reload;
mod restart;
mod rules;
mod sdk_connection;
mod sdk_forms;
mod sdk_pusher_js;
mod sdk_server;
mod slow_consumer;
mod subscribe;
mod trigger_api;
mod users;
mod users_api;
mod webhooks;
