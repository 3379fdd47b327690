//! Runs functions.
pub mod function;
pub mod invocation;
pub mod limits;
pub mod names;
