//! The hub: keeps templates, tasks and people; decides, signs and records.
//!
//! Modules are declared from the lowest to the highest; each imports only those above it.

pub mod model;

pub mod limits;
pub mod meter;

pub mod config;

pub mod outside;
pub mod store;
pub mod vault;

pub mod flow;

pub mod link;
pub mod web;

mod hub;
mod rekey;

pub mod commands;

pub use hub::{Hub, HubError, Initialised, init};
