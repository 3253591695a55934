//! A hub that holds the real one's keys and means harm, before a real bridge. It speaks what docs/protocol.md
//! says, and then what it forbids.

mod hub;
mod jobs;
mod orders;
