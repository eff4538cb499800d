//! Drives the real binary with real clients.
