//! One enrolment: a request on a stream of its own, and its answer.

use quinn::Connection;
use steward_certs::enrol::{EnrolAnswer, EnrolRequest, RefusalCode};
use steward_shared::limits::{ENROL_BYTES_MAX, HELLO_WITHIN};

use super::transport;
use crate::flow::Flow;
use crate::meter::{self, Door};

/// Answers one request and closes the connection.
pub(super) async fn serve(flow: &Flow, connection: &Connection) {
    let answered = tokio::time::timeout(HELLO_WITHIN, answer(flow, connection)).await;
    if !matches!(answered, Ok(Some(()))) {
        connection.close(transport::MISBEHAVED, b"not a request");
    }
}

async fn answer(flow: &Flow, connection: &Connection) -> Option<()> {
    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
    let bytes = receive.read_to_end(ENROL_BYTES_MAX).await.ok()?;
    let answer = match EnrolRequest::decode(&bytes, &flow.vault.pins()) {
        Ok(request) => flow.enrol(request).await,
        Err(error) => {
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "refused a request for enrolment"
            );
            let message = "the request is malformed or its proof does not hold".to_owned();
            EnrolAnswer::Refused {
                code: RefusalCode::Malformed,
                message,
            }
        }
    };
    if matches!(answer, EnrolAnswer::Refused { .. }) {
        meter::authentication_failed(Door::Enrolment);
    }
    send.write_all(&answer.encode().ok()?).await.ok()?;
    send.finish().ok()?;
    // The peer closes when it has read the answer.
    connection.closed().await;
    Some(())
}
