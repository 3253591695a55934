//! Peers that hold real keys and mean harm, and strangers that hold none: a rogue hub before a real bridge,
//! a rogue bridge before a real hub. They speak what docs/protocol.md says, and then what it forbids.

mod approvals;
mod authors;
mod bridge;
mod clauses;
mod doors;
mod files;
mod hub;
mod jobs;
mod messages;
mod orders;
mod output;
mod retired;
mod storm;
mod watch;
