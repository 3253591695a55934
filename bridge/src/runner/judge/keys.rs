//! The keys of attempts that wait for their permits, and the connections that they were made for.

use steward_shared::codec::CodecError;
use steward_shared::frame::{AttemptKeys, ConnectionClosed, ToHub};
use steward_shared::id::{AttemptId, LeaseId};

use super::{Deed, Judge, NotYet, Readiness, Turn};

impl Judge {
    /// Where it cannot be said, the next Hello says it.
    pub(super) fn closed(&self, lease: LeaseId, turn: &mut Turn<'_>) -> Result<(), CodecError> {
        if self.connected {
            let closed = ConnectionClosed {
                cluster: self.bench.trust.cluster,
                bridge: self.bench.trust.bridge,
                lease,
            };
            let closed = self.sign(&closed)?;
            turn.deeds.push(Deed::Send(ToHub::ConnectionClosed(closed)));
        }
        Ok(())
    }

    /// The keys that a start request is made with; none where the attempt needs none. Where they are not there
    /// yet, what must be done for them.
    pub(super) fn keys(
        &mut self,
        attempt: AttemptId,
        nonce: [u8; 16],
        deeds: &mut Vec<Deed>,
    ) -> Result<Option<AttemptKeys>, NotYet> {
        let admitted = self.admitted.get(&attempt);
        let Some(admitted) = admitted.filter(|admitted| admitted.prepares()) else {
            return Ok(None);
        };
        let again = match self.prepared.get_mut(&attempt) {
            Some(Readiness::Begun { .. }) => return Err(NotYet),
            Some(Readiness::Ready(ready, asked)) if asked.is_none_or(|asked| asked == nonce) => {
                *asked = Some(nonce);
                return Ok(Some(ready.clone()));
            }
            // A target that has waited for so long may be waiting no more.
            Some(Readiness::Ready(..)) => {
                deeds.push(Deed::Abandon(attempt));
                true
            }
            None => false,
        };
        let place = admitted.admission.place.clone();
        deeds.push(Deed::Prepare(Box::new(admitted.job.clone()), place));
        self.prepared.insert(attempt, Readiness::Begun { again });
        Err(NotYet)
    }
}
