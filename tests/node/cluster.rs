//! The same promises on rqlite, Olric and kubo, and those that only several nodes can keep.

// Helpers say what is wrong by panicking, as the tests themselves do; some of them only the tests of `embedded.rs` need.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

/// Nodes get servers of their own unless a test names some.
const ON_SERVERS: bool = true;

mod described;
mod harness;
mod honest;
mod http;
mod process;
mod servers;
mod shell;
mod speakers;

mod audit;
mod bounds;
mod calls;
mod cli_services;
mod cors;
mod credentials;
mod db;
mod deploy;
mod descriptors;
mod durability;
mod events;
mod example;
mod functions;
mod hostile_names;
mod in_use;
mod internal;
mod invoke;
mod isolation;
mod jwt;
mod keys;
mod namespace_logs;
mod narrow_keys;
mod outbox;
mod paths;
mod reload;
mod retries;
mod schedules;
mod sdk_conformance;
mod secrets;
mod services;
mod stats;
mod traces;
mod uploads;
mod web;
mod web_examples;
mod websocket;

mod several;
