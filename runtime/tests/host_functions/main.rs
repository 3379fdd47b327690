//! The host functions of services: what reaches a service of what a guest hands over, what a guest gets of what a service
//! answers, and every failure on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod absent;
mod allocators;
mod answers;
mod arguments;
mod database;
mod guest;
mod http;
mod oddities;
mod recorder;
mod waiting;
mod web;
