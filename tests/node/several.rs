//! Tests that need several nodes, or servers that fail.

mod audit;
mod changes;
mod faults;
mod nodes;
mod operations;
mod schedules;
mod writes;
