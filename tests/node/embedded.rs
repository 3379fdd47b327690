//! What callers can rely on: every test here starts the real `orama serve` and talks to it over sockets, or runs the
//! command line against it.

// Helpers say what is wrong by panicking, as the tests themselves do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// Nodes are embedded unless a test names servers.
const ON_SERVERS: bool = false;

mod access;
mod audit;
mod bounds;
mod browser;
mod calls;
mod canaries;
mod chromium;
mod cli;
mod cli_services;
mod commands;
mod config;
mod conformance;
mod console;
mod contexts;
mod cors;
mod credentials;
mod crowds;
mod damage;
mod db;
mod density;
mod deploy;
mod described;
mod descriptors;
mod dev;
mod draining;
mod durability;
mod events;
mod every_route;
mod example;
mod function_test;
mod functions;
mod go_guests;
mod harness;
mod homes;
mod honest;
mod hostile_clients;
mod hostile_edge;
mod hostile_egress;
mod hostile_guests;
mod hostile_modules;
mod hostile_sql;
mod http;
mod in_use;
mod internal;
mod invoke;
mod isolation;
mod jwt;
mod keys;
mod lifecycle;
mod load;
mod namespace_logs;
mod narrow_keys;
mod neighbours;
mod node_log;
mod noexec;
mod openapi;
mod outbox;
mod parking;
mod paths;
mod process;
mod protocol;
mod proxies;
mod quotas;
mod rates;
mod reference;
mod reload;
mod restarts;
mod retries;
mod schedules;
mod sdk_conformance;
mod secrets;
// Most of it is for `cluster.rs`.
#[allow(dead_code)]
mod servers;
mod services;
mod shell;
mod snapshots;
mod speakers;
mod stats;
mod survival;
mod traces;
mod transfer;
mod tutorial;
mod uploads;
mod watching;
mod web;
mod web_examples;
mod websocket;
