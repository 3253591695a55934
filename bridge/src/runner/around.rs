//! The machine around the runner.

use std::path::PathBuf;
use std::sync::Arc;

use steward_shared::random::{Random, SystemRandom};
use steward_shared::time::Clock;

use super::matter::Outside;
use super::operator::{Operator, Orders};
use super::room;
use super::session::Now;

/// The machine, as the judge asks about it.
#[derive(Debug)]
pub(super) struct Around {
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
    /// Its operator.
    pub operator: Operator,
    /// The folder whose disk is asked about.
    pub folder: PathBuf,
}

impl Outside for Around {
    fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            boot: self.clock.boot(),
        }
    }

    fn orders(&mut self) -> Orders {
        self.operator.look()
    }

    fn nonce(&mut self) -> [u8; 16] {
        SystemRandom.bytes()
    }

    fn room(&mut self) -> u64 {
        room::left_for_certain(&self.folder)
    }
}
