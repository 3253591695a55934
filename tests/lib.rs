//! The harness of the whole: real programs, real QUIC, real TLS, watched from outside.
//!
//! A test makes a [`World`], starts hubs and bridges in it, and ends with [`World::passed`], which
//! stops them in order and looks for what went wrong unseen. Nothing is shared between two worlds.
//! Called by the tests in `it` and by the benches.

#![expect(
    clippy::future_not_send,
    reason = "a test and what it waits for stay on one thread"
)]

pub mod rig;

pub use rig::api::{Answer, Api};
pub use rig::bridge::{Bridge, Wish};
pub use rig::canary::Canary;
pub use rig::documents::{rendered, run_of, script};
pub use rig::entry::{ENTRIES, Entry};
pub use rig::feed::{Event, Feed};
pub use rig::hub::Hub;
pub use rig::ledger::{Ledger, Tried, Verdicts};
pub use rig::light::{Fleet, Ground, Work};
pub use rig::mount::Mount;
pub use rig::mutator::Mutator;
pub use rig::openbao::OpenBao;
pub use rig::postgres::Postgres;
pub use rig::program::{Output, Program};
pub use rig::relay::Relay;
pub use rig::sshd::Sshd;
pub use rig::stranger::as_user;
pub use rig::tamper::{CALLS, Injected, Trace, traced};
pub use rig::telnetd::{TELNET_MACHINE, Telnetd};
pub use rig::wait::{report, until, within};
pub use rig::world::{World, is_alive, mentioning};
