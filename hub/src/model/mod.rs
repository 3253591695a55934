//! What is true of runs, jobs and attempts, and how it may change. Pure: no I/O, no clock, no randomness.

pub mod attempt;
pub mod credential;
pub mod hub_key;
pub mod job;
pub mod kek;
pub mod name;
pub mod outside;
pub mod permission;
pub mod rotation;
pub mod run;
pub mod sealed;
pub mod template;
