//! The parts of the harness, the lowest first.

pub mod canary;
pub mod stranger;
pub mod wait;

pub mod entry;
pub mod mutator;
pub mod program;
pub mod relay;

pub mod feed;

pub mod api;
pub mod documents;
pub mod world;

pub mod bridge;
pub mod hub;
pub mod mount;
pub mod openbao;
pub mod postgres;
pub mod sshd;
pub mod tamper;

pub mod telnetd;

pub mod ledger;
pub mod light;
