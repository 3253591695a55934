//! The agent: takes signed jobs, checks them against its own policy, runs them, streams their output.
//!
//! One binary, two processes: the [`link`] faces the network and can run nothing by itself, the
//! [`runner`] has the privileges that jobs need and believes only what is signed. Where they have
//! users of their own there is a third, which starts both.
//! Modules are declared from the lowest to the highest; each imports only those above it.

pub mod limits;

pub mod policy;

pub mod config;
pub mod keep;
pub mod wire;

pub mod link;
pub mod runner;

mod bridge;
pub mod explain;
mod supervisor;

pub mod commands;

pub use bridge::{Bridge, BridgeError, enroll};
