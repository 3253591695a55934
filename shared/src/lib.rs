//! What hub and bridge say to each other, and what both must understand alike.
//!
//! Nothing here opens a file or a socket.
//! Modules are declared from the lowest to the highest; each imports only those above it.

pub mod pages;

pub mod cause;
pub mod failpoint;
pub mod hex;
pub mod id;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod random;
pub mod secret;
pub mod stop;
pub mod time;

pub mod template;

pub mod action;
pub mod credential;

pub mod job;

pub mod codec;
pub mod merkle;
pub mod remote;

pub mod seal;
pub mod sign;

pub mod approval;

pub mod proof;
pub mod rendered;

pub mod file;
pub mod trust;

pub mod frame;
pub mod log;
