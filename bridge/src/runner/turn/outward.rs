//! What goes out: frames for the link, output for its streams.

use steward_shared::frame::{ToHub, ToLink};
use steward_shared::id::AttemptId;
use tokio::sync::mpsc;

use super::super::receipt;
use super::super::stream::Streams;
use super::Turns;

impl Turns {
    pub(super) fn stream(&mut self, connection: [u8; 16], have: Vec<(AttemptId, u64)>) {
        let Some(link) = &mut self.link else { return };
        let (output, stop) = (link.output.clone(), link.stop.child());
        for elder in self.elders.values() {
            elder.stream(connection, &have, &output);
        }
        self.files.open(connection, link.files.clone());
        let mut streams = Streams::new(self.spool.clone(), connection, output, stop);
        for (attempt, position) in have {
            streams.begin(attempt, position);
        }
        link.streams = Some(streams);
    }

    pub(super) fn send(&mut self, frame: ToHub) {
        receipt::reached(&frame);
        self.pass(ToLink::Hub(frame));
    }

    pub(super) fn pass(&mut self, frame: ToLink) {
        let Some(link) = &self.link else { return };
        match link.control.try_send(frame) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => self.drop_link(),
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!("the link takes no frames: dropped it");
                self.drop_link();
            }
        }
    }

    pub(super) fn close_streams(&mut self) {
        self.files.close();
        for elder in self.elders.values() {
            elder.close();
        }
        if let Some(mut streams) = self.link.as_mut().and_then(|link| link.streams.take()) {
            streams.close();
        }
    }

    pub(super) fn drop_link(&mut self) {
        self.close_streams();
        self.judge.unlinked();
        if let Some(link) = self.link.take() {
            link.stop.stop();
        }
    }
}
