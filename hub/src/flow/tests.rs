//! The hub's side of an attempt's life, told by the frames that a bridge would send and get.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use rusqlite::Connection;
use steward_certs::key::Key;
use steward_shared::action::{Action, ActionKind};
use steward_shared::codec;
use steward_shared::frame::{
    AttemptKeys, ConnectionClosed, Hello, OpenAttempt, Receipt, ReceiptEvent, Refusal, Released,
    Start, ToBridge,
};
use steward_shared::hex;
use steward_shared::id::{BridgeId, ClusterId, JournalId, LeaseId, ProjectId, StartId};
use steward_shared::job::{Digest, Exit, Extent, Job, Outcome};
use steward_shared::limits::{BODY_BYTES_MAX, UNREACHABLE_AFTER};
use steward_shared::random::SystemRandom;
use steward_shared::seal::{Binding, OpeningKey};
use steward_shared::secret::Secret;
use steward_shared::sign::{Signed, SigningKey, Verifier};
use steward_shared::template::{SshTarget, TelnetTarget};
use steward_shared::trust::TrustMark;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bridges::Wish;
use super::credentials::NewCredential;
use super::documents::Wanted;
use super::error::FlowError;
use super::presence::Arrival;
use super::roster::{Place, Present};
use super::runs::{Once, RunRequest};
use super::targets::NewTarget;
use super::transition::{Note, resolve_by_person};
use super::*;
use crate::limits::{OFFER_BATCH, UNKNOWN_AFTER};
use crate::model::attempt::{AttemptEvent, AttemptState};
use crate::model::job::JobState;
use crate::model::kek::KekSource;
use crate::model::run::RunState;
use crate::store::{
    AttemptRow, BridgeRow, BridgeStatus, EventRow, JobRow, NewBridge, ProjectRow, RunRow,
    StoreError, Tx,
};
use crate::vault::kek::{Kek, stretching};

pub(super) const USER: &str = "m.okafor";
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_000);

#[tokio::test]
async fn attempt_lives_by_its_bridges_receipts_and_is_settled_when_all_is_there() {
    let hub = Bench::new().await;
    let run = hub.run(&["one"]).await;
    let job = hub.offer().await;
    assert_eq!((job.run, job.number, job.bridge), (run.id, 1, hub.bridge));
    assert_eq!((job.journal, job.fence, job.seq), (hub.journal, 1, 1));
    hub.becomes(&job, ReceiptEvent::Accepted, AttemptState::Accepted)
        .await;
    hub.becomes(&job, request(1), AttemptState::Starting).await;
    hub.permits(&job, 1);
    hub.becomes(&job, ReceiptEvent::Started, AttemptState::Running)
        .await;
    hub.output(&job, 0, b"hello").await.unwrap();
    hub.acks(5, false);
    let exit = exited(Outcome::Succeeded(0), b"hello world");
    hub.becomes(&job, exit, AttemptState::Succeeded).await;
    assert!(!hub.row(&job).await.settled);
    assert_eq!(hub.find(&run).await.state, RunState::Succeeded);
    hub.output(&job, 5, b" world").await.unwrap();
    hub.acks(11, false);
    hub.acks(11, true);
    let row = hub.row(&job).await;
    assert!(row.settled && row.output_complete);
    let events: Vec<_> = hub
        .events(&job)
        .await
        .into_iter()
        .map(|event| event.action)
        .collect();
    let wanted = [
        "offered",
        "accepted",
        "permitted",
        "started",
        "succeeded",
        "settled",
    ];
    assert_eq!(events, wanted.map(|word| format!("attempt.{word}")));
}

#[tokio::test]
async fn repeated_receipt_changes_nothing_in_any_state() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    let mut said = Vec::new();
    for event in [
        ReceiptEvent::Accepted,
        request(1),
        ReceiptEvent::Started,
        exited(Outcome::Exited(3), b""),
    ] {
        said.push(event.clone());
        hub.say(&job, event).await.unwrap();
        let before = hub.everything().await;
        // What comes too late is refused or passed over, and nothing of it is kept.
        for old in said.clone() {
            drop(hub.say(&job, old).await);
        }
        assert_eq!(hub.everything().await, before);
    }
    assert_eq!(hub.row(&job).await.state, AttemptState::Failed);
}

#[tokio::test]
async fn receipt_of_another_bridge_fence_or_cluster_is_refused() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    let good = hub.receipt(&job, ReceiptEvent::Accepted);
    for wrong in [
        Receipt {
            cluster: ClusterId::random(),
            ..good.clone()
        },
        Receipt {
            bridge: BridgeId::random(),
            ..good.clone()
        },
        Receipt {
            fence: good.fence + 1,
            ..good.clone()
        },
    ] {
        let taken = hub.flow.take_receipt(hub.bridge, "bridge-1", wrong).await;
        assert!(matches!(taken, Err(FlowError::Misbehaved(_))), "{taken:?}");
    }
    let other = BridgeId::random();
    let stolen = Receipt {
        bridge: other,
        ..good
    };
    let taken = hub.flow.take_receipt(other, "bridge-2", stolen).await;
    assert!(matches!(taken, Err(FlowError::Misbehaved(_))), "{taken:?}");
    assert_eq!(hub.row(&job).await.state, AttemptState::Offered);
}

#[tokio::test]
async fn permit_is_given_again_to_the_same_request_and_to_no_other() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.say(&job, ReceiptEvent::Accepted).await.unwrap();
    for _ in 0..2 {
        hub.say(&job, request(1)).await.unwrap();
        hub.permits(&job, 1);
    }
    hub.say(&job, request(2)).await.unwrap();
    hub.refuses(2);
    hub.say(&job, ReceiptEvent::Started).await.unwrap();
    hub.say(&job, request(1)).await.unwrap();
    hub.refuses(1);
    assert_eq!(hub.row(&job).await.nonce, Some(hex::encode(&[1; 16])));
}

#[tokio::test]
async fn of_two_requests_at_once_one_gets_the_permit() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.say(&job, ReceiptEvent::Accepted).await.unwrap();
    let (one, other) = join(hub.say(&job, request(1)), hub.say(&job, request(2))).await;
    assert!(one.is_ok() && other.is_ok());
    let frames = [hub.frame(), hub.frame()];
    let permits = frames
        .iter()
        .filter(|frame| matches!(frame, ToBridge::Permit(_)))
        .count();
    let refusals = frames
        .iter()
        .filter(|frame| matches!(frame, ToBridge::PermitRefused(_)))
        .count();
    assert_eq!((permits, refusals), (1, 1));
}

#[tokio::test]
async fn of_two_ends_at_once_one_counts_and_the_other_does_not_undo_it() {
    let hub = Bench::new().await;
    let run = hub.run(&["one", "two"]).await;
    let job = hub.offer().await;
    hub.start(&job).await;
    let (one, other) = join(
        hub.say(&job, exited(Outcome::Succeeded(0), b"")),
        hub.say(&job, exited(Outcome::Exited(1), b"")),
    )
    .await;
    assert!(one.is_ok() && other.is_ok());
    let actions: Vec<_> = hub
        .events(&job)
        .await
        .into_iter()
        .map(|event| event.action)
        .collect();
    let ends = ["attempt.succeeded", "attempt.failed"];
    assert_eq!(
        actions
            .iter()
            .filter(|action| ends.contains(&action.as_str()))
            .count(),
        1
    );
    assert_eq!(
        actions
            .iter()
            .filter(|action| *action == "attempt.settled")
            .count(),
        1
    );
    let counts = hub.find(&run).await.counts;
    assert_eq!(
        (
            counts.succeeded + counts.failed,
            counts.queued + counts.active
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn start_that_was_reported_and_then_proven_not_to_be_one_goes_back_to_the_queue() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.start(&job).await;
    hub.becomes(&job, not_started(), AttemptState::NotStarted)
        .await;
    assert_eq!(hub.job(&job).await.state, JobState::Queued);
}

#[tokio::test]
async fn start_request_after_a_cancel_gets_no_permit() {
    let hub = Bench::new().await;
    let run = hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.say(&job, ReceiptEvent::Accepted).await.unwrap();
    let cancelled = hub.flow.cancel_run(USER, &run.code).await.unwrap();
    assert_eq!(cancelled.state, RunState::Cancelled);
    assert!(matches!(hub.frame(), ToBridge::Cancel(_)));
    hub.say(&job, request(1)).await.unwrap();
    hub.refuses(1);
    assert_eq!(hub.row(&job).await.state, AttemptState::Withdrawn);
    hub.say(&job, not_started()).await.unwrap();
    hub.acks(0, true);
    assert_eq!(hub.job(&job).await.state, JobState::Cancelled);
    // After an end without a start, a start is a violation, and nothing of it is kept.
    let before = hub.everything().await;
    assert!(matches!(
        hub.say(&job, ReceiptEvent::Started).await,
        Err(FlowError::Misbehaved(_))
    ));
    assert_eq!(hub.everything().await, before);
}

#[tokio::test]
async fn cancelled_run_ends_what_waits_and_asks_what_runs() {
    let hub = Bench::new().await;
    let run = hub
        .run_with(RunRequest {
            at_once: Some(1),
            ..request_for(&["one", "two"])
        })
        .await;
    let job = hub.offer().await;
    hub.start(&job).await;
    for _ in 0..2 {
        let cancelled = hub.flow.cancel_run(USER, &run.code).await.unwrap();
        assert_eq!(cancelled.state, RunState::Running);
        assert_eq!(
            (cancelled.counts.cancelled, cancelled.counts.active),
            (1, 1)
        );
        let ToBridge::Cancel(cancel) = hub.frame() else {
            panic!("no cancel")
        };
        let cancel = cancel.verify([&hub.key]).unwrap();
        assert_eq!((cancel.attempt, cancel.fence), (job.attempt, job.fence));
    }
    assert_eq!(hub.row(&job).await.state, AttemptState::Cancelling);
    // It was faster than the wish: that is a success.
    hub.say(&job, exited(Outcome::Succeeded(0), b""))
        .await
        .unwrap();
    assert_eq!(hub.job(&job).await.state, JobState::Succeeded);
    let ended = hub.find(&run).await;
    assert_eq!((ended.state, ended.counts.queued), (RunState::Cancelled, 0));
}

#[tokio::test]
async fn revoked_bridge_gets_no_permit() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.say(&job, ReceiptEvent::Accepted).await.unwrap();
    hub.flow
        .set_bridge(USER, "bridge-1", Wish::Revoke)
        .await
        .unwrap();
    assert!(matches!(
        hub.say(&job, request(1)).await,
        Err(FlowError::Misbehaved(_))
    ));
}

#[tokio::test]
async fn revocation_frees_at_once_what_had_no_permit() {
    let hub = Bench::new().await;
    hub.run(&["one", "two", "three"]).await;
    let (offered, accepted, running) = (hub.offer().await, hub.offer().await, hub.offer().await);
    hub.say(&accepted, ReceiptEvent::Accepted).await.unwrap();
    hub.start(&running).await;
    hub.flow
        .set_bridge(USER, "bridge-1", Wish::Revoke)
        .await
        .unwrap();
    for job in [&offered, &accepted] {
        let row = hub.row(job).await;
        assert_eq!((row.state, row.settled), (AttemptState::NotStarted, true));
        assert_eq!(hub.job(job).await.state, JobState::Queued);
    }
    assert_eq!(hub.row(&running).await.state, AttemptState::Running);
}

#[tokio::test]
async fn closed_window_gets_no_permit() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.say(&job, ReceiptEvent::Accepted).await.unwrap();
    hub.clock
        .pass(job.not_after.since(hub.flow.now()) + Duration::from_millis(1));
    hub.say(&job, request(1)).await.unwrap();
    hub.refuses(1);
    assert_eq!(hub.row(&job).await.state, AttemptState::Accepted);
}

#[tokio::test]
async fn refusal_is_a_verdict_and_not_started_is_another_try() {
    let hub = Bench::new().await;
    let run = hub.run(&["one"]).await;
    let first = hub.offer().await;
    hub.start(&first).await;
    hub.say(&first, exited(Outcome::Interrupted, b""))
        .await
        .unwrap();
    hub.acks(0, true);
    assert_eq!(hub.find(&run).await.state, RunState::Failed);

    let run = hub.run(&["one"]).await;
    let second = hub.offer().await;
    hub.say(&second, request(1)).await.unwrap();
    hub.permits(&second, 1);
    hub.say(&second, not_started()).await.unwrap();
    hub.acks(0, true);
    let third = hub.offer().await;
    assert_eq!((third.job, third.number), (second.job, 2));
    assert!(third.fence > second.fence && third.seq > second.seq);
    let refusal = Refusal {
        clause: "policy.hours".to_owned(),
        message: "not now".to_owned(),
    };
    hub.say(&third, ReceiptEvent::Refused(refusal))
        .await
        .unwrap();
    hub.acks(0, true);
    assert_eq!(hub.job(&third).await.why, "policy.hours: not now");
    assert_eq!(hub.find(&run).await.state, RunState::Failed);
}

#[tokio::test]
async fn job_is_not_tried_for_ever() {
    let hub = Bench::new().await;
    let run = hub.run(&["one"]).await;
    for number in 1..=crate::model::job::ATTEMPTS_MAX {
        let job = hub.offer().await;
        assert_eq!(job.number, number);
        hub.say(&job, not_started()).await.unwrap();
        hub.acks(0, true);
    }
    assert_eq!(hub.find(&run).await.state, RunState::Failed);
}

#[tokio::test]
async fn output_with_a_gap_or_another_past_or_from_nowhere_is_refused() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    assert_misbehaved(&hub.output(&job, 0, b"early").await);
    hub.start(&job).await;
    assert_eq!(hub.output(&job, 0, b"0123456789").await.unwrap(), 10);
    assert_misbehaved(&hub.output(&job, 11, b"x").await);
    assert_misbehaved(&hub.output(&job, 5, b"5678X").await);
    // An equal part is passed over, and the rest is new.
    assert_eq!(hub.output(&job, 0, b"0123").await.unwrap(), 10);
    assert_eq!(hub.output(&job, 5, b"56789X").await.unwrap(), 11);
    assert_eq!(hub.log(&job).await, b"0123456789X");
    let other = hub
        .flow
        .take_output(BridgeId::random(), job.attempt, 11, Bytes::new())
        .await;
    assert_misbehaved(&other);
    let nowhere = AttemptId::random();
    assert_misbehaved(
        &hub.flow
            .take_output(hub.bridge, nowhere, 0, Bytes::new())
            .await,
    );
}

#[tokio::test]
async fn output_beyond_what_any_bridge_could_make_of_the_limit_is_refused() {
    let hub = Bench::new().await;
    hub.run_with(RunRequest {
        task: "brief".to_owned(),
        ..request_for(&[])
    })
    .await;
    let job = hub.offer().await;
    hub.start(&job).await;
    // Each of the hundred bytes in a record of its own.
    let most = vec![b'x'; 100 * 25];
    assert_eq!(hub.output(&job, 0, &most).await.unwrap(), 2500);
    assert_misbehaved(&hub.output(&job, 2500, b"x").await);
    assert_eq!(hub.log(&job).await, most);
}

#[tokio::test]
async fn small_log_stays_in_the_row_and_a_large_one_moves_to_segments_whole() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.start(&job).await;
    let large: Vec<u8> = (0..crate::limits::SEGMENT_BYTES_MAX + 100_000)
        .map(byte)
        .collect();
    let (inline, edge) = (crate::limits::OUTPUT_INLINE_BYTES, 1000);
    hub.output(&job, 0, &large[..edge]).await.unwrap();
    hub.output(&job, edge, &large[edge..inline]).await.unwrap();
    assert_eq!(hub.tail(&job).await, inline);
    assert!(hub.objects().is_empty());
    hub.output(&job, inline, &large[inline..]).await.unwrap();
    assert_eq!(hub.tail(&job).await, 0);
    assert_eq!(
        hub.objects().len(),
        2,
        "the whole log, in pieces of the largest size"
    );
    assert!(hub.log(&job).await == large, "the log is another");
    // The overlap lies in segments now, and is compared all the same.
    let end = large.len();
    assert_eq!(
        hub.output(&job, end - 5, &large[end - 5..]).await.unwrap(),
        end as u64
    );
    assert_misbehaved(&hub.output(&job, end - 5, b"other").await);
    hub.say(&job, exited(Outcome::Succeeded(0), &large))
        .await
        .unwrap();
    let row = hub.row(&job).await;
    assert!(row.settled && row.output_complete);
}

#[tokio::test]
async fn output_that_comes_after_the_exit_is_acknowledged_on_its_way() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.start(&job).await;
    hub.say(&job, exited(Outcome::Succeeded(0), b"0123456789"))
        .await
        .unwrap();
    // Without this the bridge, which waits for it, would never send the rest.
    hub.output(&job, 0, b"01234").await.unwrap();
    hub.acks(5, false);
    assert_misbehaved(&hub.output(&job, 5, b"56789 and more").await);
    assert!(!hub.row(&job).await.settled);
    hub.output(&job, 5, b"56789").await.unwrap();
    hub.acks(10, false);
    hub.acks(10, true);
    assert!(hub.row(&job).await.output_complete);
}

#[tokio::test]
async fn output_that_is_not_what_the_exit_record_says_is_never_called_complete() {
    let hub = Bench::new().await;
    hub.run(&["one", "two"]).await;
    for (sent, told) in [(&b"hello"[..], &b"other"[..]), (b"hello", b"hell")] {
        let job = hub.offer().await;
        hub.start(&job).await;
        hub.output(&job, 0, sent).await.unwrap();
        hub.say(&job, exited(Outcome::Succeeded(0), told))
            .await
            .unwrap();
        let row = hub.row(&job).await;
        assert!(row.settled && !row.output_complete);
        let last = hub.events(&job).await.pop().unwrap();
        assert_eq!(last.action, "attempt.output_differs");
        hub.drain();
    }
}

#[tokio::test]
async fn two_streams_of_one_log_write_it_once() {
    let hub = Bench::new().await;
    hub.run(&["one", "two"]).await;
    for length in [1000, 200_000] {
        let job = hub.offer().await;
        hub.start(&job).await;
        let log: Vec<u8> = (0..length).map(byte).collect();
        let stream = |piece: usize| {
            let (hub, job, log) = (&hub, &job, &log);
            async move {
                for (number, part) in log.chunks(piece).enumerate() {
                    hub.output(job, number * piece, part).await.unwrap();
                }
            }
        };
        join(stream(length / 7), stream(length / 4)).await;
        assert!(hub.log(&job).await == log, "the log is another");
        hub.say(&job, exited(Outcome::Succeeded(0), &log))
            .await
            .unwrap();
        assert!(hub.row(&job).await.output_complete);
        hub.drain();
    }
}

#[tokio::test]
async fn forgotten_attempt_is_tried_again_without_a_permit_and_unknown_with_one() {
    let hub = Bench::new().await;
    let run = hub.run(&["one", "two"]).await;
    let (waits, starts) = (hub.offer().await, hub.offer().await);
    hub.say(&waits, ReceiptEvent::Accepted).await.unwrap();
    hub.start(&starts).await;
    let greeted = hub.greet(starts.seq, &[]).await;
    assert!(
        greeted
            .iter()
            .all(|frame| matches!(frame, ToBridge::Welcome(_))),
        "{greeted:?}"
    );
    assert_eq!(hub.row(&waits).await.state, AttemptState::NotStarted);
    assert_eq!(hub.row(&starts).await.state, AttemptState::Unknown);
    assert_eq!(hub.job(&starts).await.state, JobState::Unknown);
    assert!(hub.row(&starts).await.settled);
    let again = hub.offer().await;
    assert_eq!((again.job, again.number), (waits.job, 2));
    assert!(again.fence > starts.fence);
    // The old one may still ask; its fence is not the newest any more.
    hub.say(&waits, request(9)).await.unwrap();
    hub.refuses(9);
    assert_eq!(hub.find(&run).await.counts.unknown, 1);
    assert_eq!(hub.bridge().await.status, BridgeStatus::Active);
}

#[tokio::test]
async fn offer_that_never_arrived_is_sent_again_as_it_was() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    let frames = hub.greet(0, &[]).await;
    let [ToBridge::Welcome(welcome), ToBridge::Offer(again)] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert!(welcome.have.is_empty());
    assert_eq!(again.job.verify([&hub.key]).unwrap(), job);
    assert_eq!(hub.row(&job).await.state, AttemptState::Offered);
}

#[tokio::test]
async fn welcome_says_what_the_hub_has_and_repeats_its_wishes() {
    let hub = Bench::new().await;
    let run = hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.start(&job).await;
    hub.output(&job, 0, b"hello").await.unwrap();
    hub.flow.cancel_run(USER, &run.code).await.unwrap();
    hub.drain();
    let strange = OpenAttempt {
        attempt: AttemptId::random(),
        job: job.job,
        fence: 7,
    };
    let frames = hub.greet(job.seq, &[open(&job), strange]).await;
    let [
        ToBridge::Welcome(welcome),
        ToBridge::Cancel(wish),
        ToBridge::Cancel(alarm),
    ] = &frames[..]
    else {
        panic!("{frames:?}");
    };
    assert_eq!(welcome.have, [(job.attempt, 5)]);
    assert_eq!(wish.verify([&hub.key]).unwrap().attempt, job.attempt);
    assert_eq!(alarm.verify([&hub.key]).unwrap().attempt, strange.attempt);
    hub.say(&job, exited(Outcome::Cancelled, b"hello"))
        .await
        .unwrap();
    hub.acks(5, true);
    // The bridge has not heard that it is settled: it is told again.
    let frames = hub.greet(job.seq, &[open(&job)]).await;
    hub.is_ack(frames.last().unwrap(), 5, true);
}

#[tokio::test]
async fn bridge_that_lost_its_journal_is_quarantined_until_somebody_accepts_it() {
    let mut hub = Bench::new().await;
    hub.run(&["one", "two"]).await;
    let (waits, starts) = (hub.offer().await, hub.offer().await);
    hub.say(&waits, ReceiptEvent::Accepted).await.unwrap();
    hub.start(&starts).await;
    hub.journal = JournalId::random();
    hub.greet(0, &[]).await;
    assert_eq!(hub.bridge().await.status, BridgeStatus::Quarantined);
    assert_eq!(hub.row(&waits).await.state, AttemptState::NotStarted);
    assert_eq!(hub.row(&starts).await.state, AttemptState::Unknown);
    assert_misbehaved(
        &hub.flow
            .greet(hub.bridge, hub.hello(BridgeId::random(), 0, &[]))
            .await
            .map(drop),
    );
    hub.flow
        .set_bridge(USER, "bridge-1", Wish::Resume)
        .await
        .unwrap();
    hub.greet(0, &[]).await;
    assert_eq!(hub.bridge().await.status, BridgeStatus::Active);
    assert_eq!(hub.count("bridge.rollback_detected").await, 1);
}

#[tokio::test]
async fn bridge_whose_journal_went_back_is_believed_in_nothing_and_can_be_resumed() {
    let hub = Bench::new().await;
    hub.run(&["one", "two"]).await;
    let (old, new) = (hub.offer().await, hub.offer().await);
    hub.start(&old).await;
    hub.say(&new, ReceiptEvent::Accepted).await.unwrap();
    assert_eq!(hub.bridge().await.seq_seen, new.seq);
    // The journal of a moment ago has the older attempt, as it was then.
    hub.greet(old.seq, &[open(&old)]).await;
    assert_eq!(hub.bridge().await.status, BridgeStatus::Quarantined);
    assert_eq!(hub.row(&old).await.state, AttemptState::Unknown);
    assert_eq!(hub.row(&new).await.state, AttemptState::NotStarted);
    hub.say(&old, request(5)).await.unwrap();
    hub.refuses(5);
    // It ran, and the journal of before its start denies it.
    hub.say(&old, not_started()).await.unwrap();
    hub.acks(0, true);
    assert_eq!(hub.row(&old).await.resolution, None);
    hub.flow
        .set_bridge(USER, "bridge-1", Wish::Resume)
        .await
        .unwrap();
    hub.greet(old.seq, &[]).await;
    assert_eq!(hub.bridge().await.status, BridgeStatus::Active);
    let again = hub.offer().await;
    assert_eq!((again.job, again.seq), (new.job, new.seq + 1));
}

#[tokio::test]
async fn journal_that_lost_a_commit_the_hub_was_told_of_is_noticed() {
    let hub = Bench::new().await;
    hub.run(&["one", "two"]).await;
    let (ran, waits) = (hub.offer().await, hub.offer().await);
    hub.say(&waits, ReceiptEvent::Accepted).await.unwrap();
    hub.start(&ran).await;
    let started = Receipt {
        commits: 20,
        ..hub.receipt(&ran, ReceiptEvent::Started)
    };
    hub.flow
        .take_receipt(hub.bridge, "bridge-1", started)
        .await
        .unwrap();
    let hello = |commits| Hello {
        commits,
        ..hub.hello(hub.bridge, waits.seq, &[open(&ran), open(&waits)])
    };
    hub.flow.greet(hub.bridge, hello(20)).await.unwrap();
    assert_eq!(hub.bridge().await.status, BridgeStatus::Active);
    // The same attempts and the same seq: a disk of between the offer and the start.
    hub.flow.greet(hub.bridge, hello(19)).await.unwrap();
    assert_eq!(hub.bridge().await.status, BridgeStatus::Quarantined);
    assert_eq!(hub.count("bridge.rollback_detected").await, 1);
    assert_eq!(hub.row(&ran).await.state, AttemptState::Unknown);
    assert_eq!(hub.row(&waits).await.state, AttemptState::NotStarted);
    hub.say(&ran, not_started()).await.unwrap();
    assert_eq!(hub.row(&ran).await.resolution, None);
}

#[tokio::test]
async fn journal_that_went_back_and_went_on_since_is_noticed() {
    let (first, again, later) = (began(1, 0), began(2, 18), began(3, 21));
    let table = [
        // As it should be: the same runner, and one that came after all that was heard of.
        (21, vec![first], false),
        (22, vec![first, began(2, 20)], false),
        (25, vec![first, began(2, 21), later], false),
        // A disk from before the 20th commit, which has had as many again under other starts.
        (20, vec![first, again], true),
        (40, vec![first, again, later], true),
        // A copy, and a past that is too long to be proven.
        (40, vec![again], true),
    ];
    for (commits, starts, noticed) in table {
        let hub = Bench::new().await;
        hub.run(&["one"]).await;
        let ran = hub.offer().await;
        let hello = |commits, starts| Hello {
            commits,
            starts,
            ..hub.hello(hub.bridge, ran.seq, &[open(&ran)])
        };
        hub.flow
            .greet(hub.bridge, hello(10, vec![first]))
            .await
            .unwrap();
        hub.start(&ran).await;
        let started = Receipt {
            commits: 20,
            ..hub.receipt(&ran, ReceiptEvent::Started)
        };
        hub.flow
            .take_receipt(hub.bridge, "bridge-1", started)
            .await
            .unwrap();
        let told = format!("{commits} {starts:?}");
        hub.flow
            .greet(hub.bridge, hello(commits, starts))
            .await
            .unwrap();
        let status = hub.bridge().await.status;
        assert_eq!(status == BridgeStatus::Quarantined, noticed, "{told}");
    }
}

#[tokio::test]
async fn hub_whose_database_went_back_dispatches_nothing_to_a_bridge_that_knows_more() {
    let hub = Bench::new().await;
    hub.greet(7, &[]).await;
    assert_eq!(hub.bridge().await.status, BridgeStatus::Quarantined);
    assert_eq!(hub.count("bridge.ahead_of_hub").await, 1);
    hub.flow
        .set_bridge(USER, "bridge-1", Wish::Resume)
        .await
        .unwrap();
    hub.greet(7, &[]).await;
    assert_eq!(hub.bridge().await.status, BridgeStatus::Active);
    hub.run(&["one"]).await;
    assert_eq!(hub.offer().await.seq, 8);
}

#[tokio::test]
async fn silence_is_measured_by_a_clock_that_does_not_go_back() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let waits = hub.offer().await;
    hub.say(&waits, ReceiptEvent::Accepted).await.unwrap();
    hub.leave().await;
    hub.clock.turn_back(Duration::from_secs(24 * 60 * 60));
    hub.clock.pass(UNREACHABLE_AFTER + Duration::from_millis(1));
    hub.reap().await;
    assert_eq!(hub.row(&waits).await.state, AttemptState::NotStarted);
}

#[tokio::test]
async fn connection_that_is_being_replaced_is_offered_nothing() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let first = hub.offer().await;
    let hello = hub.hello(hub.bridge, first.seq, &[]);
    hub.flow.greet(hub.bridge, hello).await.unwrap();
    hub.run(&["two"]).await;
    hub.nothing_is_offered().await;
}

#[tokio::test]
async fn hello_of_an_older_connection_says_nothing_any_more() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let before = hub.hello(hub.bridge, 0, &[]);
    let job = hub.offer().await;
    hub.start(&job).await;
    hub.flow.roster.challenged(hub.bridge, [1; 16]);
    let now = Hello {
        nonce: [1; 16],
        ..hub.hello(hub.bridge, job.seq, &[open(&job)])
    };
    hub.flow.greet(hub.bridge, now).await.unwrap();
    assert_misbehaved(&hub.flow.greet(hub.bridge, before).await.map(drop));
    assert_eq!(hub.row(&job).await.state, AttemptState::Running);
    assert_eq!(hub.bridge().await.status, BridgeStatus::Active);
}

#[tokio::test]
async fn bridge_that_is_not_taken_in_to_the_end_has_no_place() {
    let hub = Bench::new().await;
    hub.leave().await;
    let bridge = hub.bridge().await;
    let arrival = Arrival {
        key: bridge.pin,
        bridge,
        hello: hub.hello(hub.bridge, 0, &[]),
        address: "10.0.0.9:1".to_owned(),
    };
    let database = Connection::open(hub.folder.path().join("hub.db")).unwrap();
    let (store, mut driver) = Store::driven(Arc::new(Mutex::new(database))).unwrap();
    let flow = Flow {
        store,
        ..hub.flow.clone()
    };
    let close = CancellationToken::new();
    // Its time for that is over just when it has its place.
    let mut entering = Box::pin(flow.enter(arrival, &close));
    while flow.roster.present(hub.bridge).is_none() {
        let mut context = Context::from_waker(Waker::noop());
        assert!(entering.as_mut().poll(&mut context).is_pending());
        driver.commit(usize::MAX).unwrap();
    }
    drop(entering);
    assert!(hub.flow.roster.present(hub.bridge).is_none());
}

#[tokio::test]
async fn unknown_attempt_is_resolved_by_a_person_once() {
    let hub = Bench::new().await;
    let run = hub.run(&["one"]).await;
    let job = hub.offer().await;
    assert!(matches!(
        hub.resolve(&job, true).await,
        Err(FlowError::Conflict { .. })
    ));
    hub.start(&job).await;
    let lost = exited(Outcome::Unknown, b"x");
    hub.becomes(&job, lost.clone(), AttemptState::Unknown).await;
    assert_eq!(hub.find(&run).await.state, RunState::Unknown);
    // The bridge says again that it does not know; that is no answer, and leaves room for one.
    hub.say(&job, lost).await.unwrap();
    assert_eq!(hub.row(&job).await.resolution, None);
    hub.resolve(&job, true).await.unwrap();
    let row = hub.row(&job).await;
    assert_eq!(row.state, AttemptState::Unknown);
    assert!(row.resolution.unwrap().contains(USER));
    assert_eq!(hub.find(&run).await.state, RunState::Succeeded);
    assert!(matches!(
        hub.resolve(&job, false).await,
        Err(FlowError::Conflict { .. })
    ));
    assert_eq!(hub.job(&job).await.state, JobState::Succeeded);
}

#[tokio::test]
async fn late_exit_resolves_an_unknown_attempt_and_is_kept_beside_a_persons_word() {
    let hub = Bench::new().await;
    let run = hub.run(&["one", "two"]).await;
    let (late, resolved) = (hub.offer().await, hub.offer().await);
    for job in [&late, &resolved] {
        hub.start(job).await;
        hub.lose(job).await;
    }
    hub.resolve(&resolved, false).await.unwrap();
    for job in [&late, &resolved] {
        hub.output(job, 0, b"done").await.unwrap();
        hub.say(job, exited(Outcome::Succeeded(0), b"done"))
            .await
            .unwrap();
        let row = hub.row(job).await;
        assert_eq!(row.state, AttemptState::Unknown);
        assert!(row.settled && row.output_complete && row.resolution.is_some());
    }
    assert_eq!(hub.job(&late).await.state, JobState::Succeeded);
    assert_eq!(
        hub.job(&resolved).await.state,
        JobState::Failed,
        "a person's word is not undone"
    );
    assert_eq!(hub.find(&run).await.state, RunState::PartlyFailed);
}

#[tokio::test]
async fn start_of_what_has_told_its_end_cannot_be_denied() {
    let hub = Bench::new().await;
    hub.run(&["one"]).await;
    let job = hub.offer().await;
    hub.start(&job).await;
    hub.say(&job, exited(Outcome::Unknown, b"")).await.unwrap();
    assert_eq!(hub.row(&job).await.state, AttemptState::Unknown);
    // Its journal is put back to before the start.
    hub.say(&job, not_started()).await.unwrap();
    let row = hub.row(&job).await;
    assert!(
        row.state == AttemptState::Unknown && row.resolution.is_none(),
        "{row:?}"
    );
}

#[tokio::test]
async fn request_with_a_key_makes_one_run() {
    let hub = Bench::new().await;
    let once = |key: &str, body: &[u8]| {
        Some(Once {
            key: key.to_owned(),
            request: Digest::of(body),
        })
    };
    let create = |user: &'static str, once| hub.flow.create_run(user, request_for(&["one"]), once);
    let (first, same) = join(create(USER, once("k", b"1")), create(USER, once("k", b"1"))).await;
    let first = first.unwrap();
    assert_eq!(same.unwrap().id, first.id);
    let other = create(USER, once("k", b"2")).await;
    assert!(matches!(other, Err(FlowError::OtherRequest)), "{other:?}");
    for (user, key) in [(USER, "l"), ("somebody", "k")] {
        assert_ne!(create(user, once(key, b"1")).await.unwrap().id, first.id);
    }
    assert_eq!(hub.count("run.requested").await, 3);
}

#[tokio::test]
async fn run_that_cannot_be_leaves_nothing() {
    let hub = Bench::new().await;
    let before = hub.everything().await;
    for wrong in [
        request_for(&["five"]),
        RunRequest {
            task: "other".to_owned(),
            ..request_for(&[])
        },
        RunRequest {
            project: "other".to_owned(),
            ..request_for(&[])
        },
        RunRequest {
            at_once: Some(0),
            ..request_for(&[])
        },
        RunRequest {
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..request_for(&[])
        },
        RunRequest {
            inputs: [("x".to_owned(), serde_json::json!(1))].into(),
            ..request_for(&[])
        },
    ] {
        let once = Some(Once {
            key: "k".to_owned(),
            request: Digest::of(b""),
        });
        assert!(hub.flow.create_run(USER, wrong, once).await.is_err());
    }
    assert_eq!(hub.everything().await, before);
    // A key whose request made nothing is still free.
    let once = Some(Once {
        key: "k".to_owned(),
        request: Digest::of(b"1"),
    });
    hub.flow
        .create_run(USER, request_for(&[]), once)
        .await
        .unwrap();
}

#[tokio::test]
async fn run_begins_nothing_more_after_so_many_failures() {
    let hub = Bench::new().await;
    let request = RunRequest {
        at_once: Some(2),
        task: "careful".to_owned(),
        ..request_for(&[])
    };
    let run = hub.run_with(request).await;
    assert_eq!(run.counts.total, 4);
    let (fails, waits) = (hub.offer().await, hub.offer().await);
    hub.start(&fails).await;
    hub.say(&fails, exited(Outcome::Exited(1), b""))
        .await
        .unwrap();
    let counts = hub.find(&run).await.counts;
    assert_eq!((counts.failed, counts.cancelled, counts.active), (1, 2, 1));
    // What had not started by then does not go back to the queue.
    hub.say(&waits, not_started()).await.unwrap();
    let ended = hub.find(&run).await;
    assert_eq!((ended.state, ended.counts.cancelled), (RunState::Failed, 3));
}

#[tokio::test]
async fn rerun_of_what_failed_takes_neither_what_succeeded_nor_what_is_under_way() {
    let hub = Bench::new().await;
    let run = hub.run(&["one", "two", "three"]).await;
    let jobs = [hub.offer().await, hub.offer().await, hub.offer().await];
    hub.start(&jobs[0]).await;
    hub.say(&jobs[0], exited(Outcome::Succeeded(0), b""))
        .await
        .unwrap();
    let none = hub.flow.rerun(USER, &run.code, true, None).await;
    assert!(matches!(none, Err(FlowError::NoTargets { .. })), "{none:?}");
    hub.drain();
    hub.start(&jobs[1]).await;
    hub.say(&jobs[1], exited(Outcome::TimedOut, b""))
        .await
        .unwrap();
    let again = hub.flow.rerun(USER, &run.code, true, None).await.unwrap();
    assert_eq!(
        (again.counts.total, again.inputs.as_str()),
        (1, run.inputs.as_str())
    );
    hub.drain();
    let all = hub.flow.rerun(USER, &run.code, false, None).await.unwrap();
    assert_eq!(all.counts.total, 3);
    assert_ne!(again.id, run.id);
}

#[tokio::test]
async fn dispatch_offers_no_more_than_run_and_bridge_allow() {
    let hub = Bench::new().await;
    hub.flow
        .roster
        .change(hub.bridge, |present| present.concurrent = 2);
    let run = hub
        .run_with(RunRequest {
            at_once: Some(3),
            ..request_for(&[])
        })
        .await;
    let jobs = [hub.offer().await, hub.offer().await];
    hub.nothing_is_offered().await;
    assert_eq!(hub.find(&run).await.counts.queued, 2);
    hub.flow
        .roster
        .change(hub.bridge, |present| present.concurrent = 9);
    hub.offer().await;
    hub.nothing_is_offered().await;
    hub.say(&jobs[0], not_started()).await.unwrap();
    hub.acks(0, true);
    let next = hub.offer().await;
    assert_eq!(
        (next.job, next.number),
        (jobs[0].job, 2),
        "the oldest place first"
    );
    hub.flow
        .roster
        .change(hub.bridge, |present| present.active = false);
    hub.say(&jobs[1], not_started()).await.unwrap();
    hub.acks(0, true);
    hub.nothing_is_offered().await;
}

#[tokio::test]
async fn batch_of_offers_is_bounded_and_shared_by_the_sites() {
    const EACH: usize = OFFER_BATCH;
    let hub = Bench::new().await;
    let documents =
        "site: site-2\n---\ntask: many\ntemplate: look\ntargets: { labels: { many: x } }\n";
    hub.flow
        .apply_documents(USER, "default", documents, Wanted::Any)
        .await
        .unwrap();
    for site in ["site-1", "site-2"] {
        for number in 0..EACH {
            let target = NewTarget {
                name: format!("{site}-{number}"),
                site: site.to_owned(),
                address: "10.0.0.1".to_owned(),
                platform: None,
                labels: BTreeMap::from([("many".to_owned(), "x".to_owned())]),
                ssh: SshTarget::default(),
                sql: None,
                telnet: TelnetTarget::default(),
                http: None,
            };
            hub.flow.add_target(USER, "default", target).await.unwrap();
        }
    }
    let other = BridgeId::by_time();
    let (_place, mut arriving) = enter_at(&hub.flow, other, JournalId::random(), "2").await;
    for bridge in [hub.bridge, other] {
        hub.flow
            .roster
            .change(bridge, |present| present.concurrent = 1024);
    }
    hub.run_with(RunRequest {
        task: "many".to_owned(),
        at_once: Some(1024),
        ..request_for(&[])
    })
    .await;
    for batch in 1..=2 {
        let offered = dispatch::offer_batch(&hub.flow).await.unwrap();
        assert_eq!(offered, OFFER_BATCH, "batch {batch}");
        let here = hub.sent().offers.len();
        assert_eq!(here, batch * OFFER_BATCH / 2, "batch {batch}");
    }
    let mut there = 0;
    while arriving.try_recv().is_ok() {
        there += 1;
    }
    assert_eq!(there, OFFER_BATCH);
}

#[tokio::test]
async fn dispatch_offers_nothing_after_the_window_and_nothing_that_a_bridge_cannot_do() {
    let hub = Bench::new().await;
    hub.flow
        .roster
        .change(hub.bridge, |present| present.executors.clear());
    hub.run(&["one"]).await;
    hub.nothing_is_offered().await;
    hub.flow.roster.change(hub.bridge, |present| {
        present.executors.push(ActionKind::Local);
    });
    hub.clock
        .pass(crate::limits::START_WINDOW + Duration::from_millis(1));
    hub.nothing_is_offered().await;
    hub.run(&["two"]).await;
    assert_eq!(hub.offer().await.target.name, "two");
}

#[tokio::test]
async fn credential_is_released_with_the_permit_under_one_lease() {
    let hub = Bench::new().await;
    let (job, key) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&job, ReceiptEvent::Accepted).await.unwrap();
    hub.say(&job, request_with(1, &key)).await.unwrap();
    let released = hub.releases(&job, 1);
    assert_eq!(hub.opens(&job, &key, &released), b"hunter2 hunter2");
    // The permit was lost on its way: the same lease, sealed anew, for the same key and for no other.
    hub.say(&job, request_with(1, &key)).await.unwrap();
    let again = hub.releases(&job, 1);
    assert_eq!(again.lease, released.lease);
    assert_eq!(hub.opens(&job, &key, &again), b"hunter2 hunter2");
    let other = OpeningKey::generate().unwrap();
    hub.say(&job, request_with(1, &other)).await.unwrap();
    hub.refuses(1);
    assert_eq!(hub.leases().await, ["lease.opened"]);
    hub.say(&job, request_with(2, &key)).await.unwrap();
    hub.refuses(2);
    hub.say(&job, ReceiptEvent::Started).await.unwrap();
    hub.say(&job, exited(Outcome::Succeeded(0), b""))
        .await
        .unwrap();
    hub.drain();
    hub.say(&job, request_with(1, &key)).await.unwrap();
    hub.refuses(1);
    assert_eq!(hub.leases().await, ["lease.opened", "lease.ended"]);
}

#[tokio::test]
async fn credential_that_is_not_what_was_signed_is_kept() {
    let hub = Bench::new().await;
    for change in [
        "account = 'root'",
        "kind = 'token'",
        "removed_at = 1, name = 'gone', version = 0",
    ] {
        let (job, key) = hub.offer_over_ssh("deploy-password").await;
        hub.say(&job, ReceiptEvent::Accepted).await.unwrap();
        hub.tamper(&format!(
            "UPDATE credentials SET {change} WHERE name = 'deploy-password'"
        ));
        hub.say(&job, request_with(1, &key)).await.unwrap();
        hub.refuses(1);
        assert_eq!(
            hub.row(&job).await.state,
            AttemptState::Accepted,
            "{change}"
        );
        assert_eq!(hub.leases().await, Vec::<String>::new(), "{change}");
        hub.say(&job, not_started()).await.unwrap();
        hub.drain();
        hub.tamper(
            "UPDATE credentials SET account = 'deploy', kind = 'password', removed_at = NULL, version = 1,
             name = 'deploy-password' WHERE name IN ('gone', 'deploy-password')",
        );
    }
    // A bridge that sends no key for it gets neither a credential nor a permit.
    let (job, _) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&job, request(1)).await.unwrap();
    hub.refuses(1);
    assert_eq!(hub.leases().await, Vec::<String>::new());
}

#[tokio::test]
async fn lease_ends_by_cancel_by_silence_and_by_time() {
    let hub = Bench::new().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let (job, key) = hub.offer_over_ssh("deploy-password").await;
        hub.say(&job, request_with(1, &key)).await.unwrap();
        hub.say(&job, ReceiptEvent::Started).await.unwrap();
        jobs.push(job);
    }
    let run = jobs[0].run.to_string();
    hub.flow.cancel_run(USER, &run).await.unwrap();
    assert_eq!(
        hub.leases()
            .await
            .iter()
            .filter(|one| *one == "lease.ended")
            .count(),
        1
    );
    hub.clock
        .pass(Duration::from_millis(jobs[1].runtime_ms) + Duration::from_secs(61));
    hub.reap().await;
    assert_eq!(
        hub.leases()
            .await
            .iter()
            .filter(|one| *one == "lease.ended")
            .count(),
        3
    );
    assert_eq!(
        hub.row(&jobs[1]).await.state,
        AttemptState::Running,
        "its verdict is another matter"
    );
    let (job, key) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&job, request_with(1, &key)).await.unwrap();
    hub.say(&job, ReceiptEvent::Started).await.unwrap();
    hub.leave().await;
    hub.clock.pass(UNREACHABLE_AFTER + Duration::from_millis(1));
    hub.reap().await;
    assert!(hub.row(&job).await.unreachable);
    assert_eq!(
        hub.leases()
            .await
            .iter()
            .filter(|one| *one == "lease.ended")
            .count(),
        4
    );
}

#[tokio::test]
async fn connection_is_shared_under_one_lease_by_those_that_it_is_for() {
    let hub = Bench::new().await;
    hub.reuse(60_000);
    let (first, key) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&first, request_with(1, &key)).await.unwrap();
    let lease = hub.releases(&first, 1).lease;
    hub.say(&first, ReceiptEvent::Started).await.unwrap();
    let (second, _) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&second, request_on(2, lease)).await.unwrap();
    hub.joins(2, lease);
    // Asked again it is the same, and the same attempt is not put elsewhere.
    hub.say(&second, request_on(2, lease)).await.unwrap();
    hub.joins(2, lease);
    hub.say(&second, request_with(2, &key)).await.unwrap();
    hub.refuses(2);
    hub.say(&second, ReceiptEvent::Started).await.unwrap();
    for job in [&first, &second] {
        hub.say(job, exited(Outcome::Succeeded(0), b""))
            .await
            .unwrap();
    }
    hub.drain();
    assert_eq!(hub.leases().await, ["lease.opened", "lease.used"]);
    // Nobody uses it: the bridge has its time to close it, and then the hub ends it by itself.
    hub.clock.pass(Duration::from_secs(89));
    hub.reap().await;
    let (third, _) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&third, request_on(3, lease)).await.unwrap();
    hub.joins(3, lease);
    hub.say(&third, ReceiptEvent::Started).await.unwrap();
    hub.clock.pass(Duration::from_secs(1));
    hub.say(&third, exited(Outcome::Succeeded(0), b""))
        .await
        .unwrap();
    hub.drain();
    hub.clock.pass(Duration::from_secs(91));
    hub.reap().await;
    assert_eq!(hub.lease_ended(), lease);
    let (fourth, _) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&fourth, request_on(4, lease)).await.unwrap();
    hub.refuses(4);
    assert_eq!(
        hub.leases().await,
        ["lease.opened", "lease.used", "lease.used", "lease.ended"]
    );
}

#[tokio::test]
async fn connection_is_not_for_whom_it_is_not() {
    let hub = Bench::new().await;
    hub.reuse(60_000);
    let (first, key) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&first, request_with(1, &key)).await.unwrap();
    let lease = hub.releases(&first, 1).lease;
    // A lease that nobody has, and one that is another bridge's or target's.
    let (job, _) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&job, request_on(2, LeaseId::from_bytes([9; 16])))
        .await
        .unwrap();
    hub.refuses(2);
    for change in [
        "same = 'x'",
        "target = (SELECT id FROM targets WHERE name = 'two')",
    ] {
        let (same, target) = hub.connection();
        hub.tamper(&format!("UPDATE connections SET {change}"));
        hub.say(&job, request_on(2, lease)).await.unwrap();
        hub.refuses(2);
        hub.tamper(&format!(
            "UPDATE connections SET same = '{same}', target = '{target}'"
        ));
    }
    assert_eq!(hub.row(&job).await.state, AttemptState::Offered);
    // Where the target says now that each has its own, the job says so too.
    hub.reuse(0);
    let (alone, _) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&alone, request_on(3, lease)).await.unwrap();
    hub.refuses(3);
    // A new value ends it at once for newcomers, and soon for all.
    let value = Secret::from("hunter3 hunter3".to_owned());
    hub.flow
        .set_credential_value(USER, "deploy-password", value)
        .await
        .unwrap();
    hub.say(&job, request_on(2, lease)).await.unwrap();
    hub.refuses(2);
    hub.reap().await;
    assert_eq!(hub.lease_ended(), lease);
    assert_eq!(hub.leases().await, ["lease.opened", "lease.ended"]);
}

#[tokio::test]
async fn connection_is_shared_under_no_value_that_may_change_unseen() {
    let hub = Bench::new().await;
    hub.reuse(60_000);
    let waits = async || {
        let (job, _) = hub.offer_over_ssh("deploy-password").await;
        let Action::Ssh(action) = job.action else {
            panic!("{:?}", job.action)
        };
        action.reuse_ms
    };
    assert_eq!(waits().await, 60_000);
    let described = |after_use: bool| {
        format!(
            "credential: deploy-password\nkind: password\naccount: deploy\ntargets: {{ names: [one] }}\n\
             rotation: {{ template: remote, after_use: {after_use} }}\n"
        )
    };
    hub.apply(&described(true)).await;
    assert_eq!(waits().await, 0, "each attempt has a value of its own");
    hub.apply(&described(false)).await;
    assert_eq!(waits().await, 60_000);
    // Kept elsewhere; where, is all the same here.
    hub.tamper("UPDATE credentials SET kept_at = id");
    assert_eq!(waits().await, 0, "it is changed elsewhere");
}

#[tokio::test]
async fn connection_ends_by_its_bridges_word_and_with_its_hello() {
    let hub = Bench::new().await;
    hub.reuse(60_000);
    let mut leases = Vec::new();
    for nonce in 1..=3 {
        let (job, key) = hub.offer_over_ssh("deploy-password").await;
        hub.say(&job, request_with(nonce, &key)).await.unwrap();
        leases.push(hub.releases(&job, nonce).lease);
        hub.say(&job, ReceiptEvent::Started).await.unwrap();
    }
    let closed = |bridge, lease| ConnectionClosed {
        cluster: hub.flow.vault.cluster(),
        bridge,
        lease,
    };
    let other = BridgeId::from_bytes([9; 16]);
    assert!(
        hub.flow
            .connection_closed(hub.bridge, closed(other, leases[0]))
            .await
            .is_err()
    );
    let word = hub.flow.connection_closed(other, closed(other, leases[0]));
    word.await.unwrap().done().await.unwrap();
    assert_eq!(hub.leases().await.len(), 3, "it is another bridge's");
    let word = hub
        .flow
        .connection_closed(hub.bridge, closed(hub.bridge, leases[0]));
    word.await.unwrap().done().await.unwrap();
    assert_eq!(hub.leases().await[3..], ["lease.ended"]);
    // An hour after it was opened it is given to nobody.
    hub.clock.pass(Duration::from_secs(60 * 60 + 1));
    let (late, _) = hub.offer_over_ssh("deploy-password").await;
    hub.drain();
    hub.say(&late, request_on(7, leases[1])).await.unwrap();
    hub.refuses(7);
    hub.leave().await;
    hub.clock.pass(UNREACHABLE_AFTER + Duration::from_millis(1));
    hub.reap().await;
    assert_eq!(hub.leases().await[3..], ["lease.ended"; 3]);
}

#[tokio::test]
async fn what_a_target_did_not_take_is_not_offered_to_it_again() {
    let hub = Bench::new().await;
    let (job, key) = hub.offer_over_ssh("deploy-password").await;
    hub.say(&job, request_with(1, &key)).await.unwrap();
    hub.say(&job, ReceiptEvent::Started).await.unwrap();
    hub.say(&job, not_started()).await.unwrap();
    assert_eq!(hub.job(&job).await.state, JobState::Failed);
    hub.nothing_is_offered().await;
}

#[tokio::test]
async fn silence_before_a_permit_frees_the_job_and_after_it_proves_nothing() {
    let hub = Bench::new().await;
    let run = hub.run(&["one", "two"]).await;
    let (waits, runs) = (hub.offer().await, hub.offer().await);
    hub.say(&waits, ReceiptEvent::Accepted).await.unwrap();
    hub.start(&runs).await;
    hub.clock.pass(Duration::from_secs(60));
    hub.reap().await;
    assert_eq!(
        hub.row(&waits).await.state,
        AttemptState::Accepted,
        "it is connected"
    );
    hub.leave().await;
    hub.clock.pass(UNREACHABLE_AFTER + Duration::from_millis(1));
    hub.reap().await;
    assert_eq!(hub.row(&waits).await.state, AttemptState::NotStarted);
    assert_eq!(hub.job(&waits).await.state, JobState::Queued);
    let row = hub.row(&runs).await;
    assert!(row.unreachable && row.state == AttemptState::Running);
    let frames = hub.greet(runs.seq, &[open(&waits), open(&runs)]).await;
    assert!(!hub.row(&runs).await.unreachable);
    assert!(matches!(&frames[1], ToBridge::Cancel(cancel)
        if cancel.verify([&hub.key]).unwrap().attempt == waits.attempt));
    let permitted = hub.row(&runs).await.permitted_at.unwrap();
    let patience = Duration::from_millis(runs.runtime_ms) + UNKNOWN_AFTER;
    hub.clock.pass(patience - hub.clock.now().since(permitted));
    hub.reap().await;
    let row = hub.row(&runs).await;
    assert!(
        row.unreachable && row.state == AttemptState::Running,
        "not yet"
    );
    hub.clock.pass(Duration::from_millis(1));
    hub.reap().await;
    assert_eq!(hub.row(&runs).await.state, AttemptState::Unknown);
    assert_eq!(hub.find(&run).await.counts.unknown, 1);
}

#[tokio::test]
async fn what_has_not_started_in_its_window_expires() {
    let hub = Bench::new().await;
    let run = hub
        .run_with(RunRequest {
            at_once: Some(2),
            ..request_for(&[])
        })
        .await;
    let (waits, runs) = (hub.offer().await, hub.offer().await);
    hub.say(&waits, ReceiptEvent::Accepted).await.unwrap();
    hub.start(&runs).await;
    hub.clock.pass(crate::limits::START_WINDOW);
    hub.reap().await;
    assert_eq!(hub.find(&run).await.counts.expired, 0);
    hub.clock.pass(Duration::from_millis(1));
    hub.reap().await;
    assert_eq!(hub.row(&waits).await.state, AttemptState::Expired);
    assert_eq!(hub.row(&runs).await.state, AttemptState::Running);
    let counts = hub.find(&run).await.counts;
    assert_eq!((counts.expired, counts.active, counts.queued), (3, 1, 0));
    assert!(matches!(hub.frame(), ToBridge::Cancel(_)));
}

/// A hub in a folder of its own, a site with a bridge, four targets, and what the bridge was sent.
pub(super) struct Bench {
    pub(super) flow: Flow,
    pub(super) clock: Arc<Hands>,
    folder: tempfile::TempDir,
    bridge: BridgeId,
    journal: JournalId,
    key: Verifier,
    trust: TrustMark,
    place: Place,
    sent: Mutex<Sent>,
}

struct Sent {
    arriving: mpsc::Receiver<ToBridge>,
    offers: VecDeque<Signed<Job>>,
    others: VecDeque<ToBridge>,
}

/// A clock that a test moves: since boot, and how much further the wall clock is.
#[derive(Debug)]
pub(super) struct Hands(AtomicU64, AtomicU64);

impl Hands {
    pub(super) fn pass(&self, time: Duration) {
        self.0
            .fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    fn turn_back(&self, time: Duration) {
        self.1
            .fetch_sub(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed) + self.1.load(Ordering::Relaxed))
    }

    fn boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

const DOCUMENTS: &str = "
site: site-1
---
target: one
site: site-1
address: 10.0.0.1
---
target: two
site: site-1
address: 10.0.0.2
---
target: three
site: site-1
address: 10.0.0.3
---
target: four
site: site-1
address: 10.0.0.4
---
template: look
title: Look
executor: local
inputs:
  word: { type: text, default: hello }
steps:
  - run: printf -- '%s' {{ word }}
timeout: 10s
---
task: look
template: look
targets: { names: [one, two, three, four] }
---
task: careful
template: look
targets: { names: [one, two, three, four] }
rules: { stop_after: 1 }
---
template: brief
title: Brief
executor: local
steps:
  - run: printf hello
limits: { output: 100B }
---
task: brief
template: brief
targets: { names: [one] }
";

impl Bench {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = ClusterId::random();
        let (keys, objects) = (folder.path().join("keys"), folder.path().join("objects"));
        for made in [&keys, &objects] {
            std::fs::create_dir(made).unwrap();
        }
        let vault = Vault::create(&keys, cluster, NOW).unwrap();
        let key = Verifier::new(&vault.job_keys()[0]).unwrap();
        let store = Store::open(&folder.path().join("hub.db")).unwrap();
        let project = ProjectRow {
            id: ProjectId::by_time(),
            name: "default".to_owned(),
            title: String::new(),
            created_at: NOW,
        };
        let added: Result<(), StoreError> = store.write(move |tx| tx.add_project(&project)).await;
        added.unwrap();
        let clock = Arc::new(Hands(AtomicU64::new(0), AtomicU64::new(NOW.as_millis())));
        let flow = Flow {
            store,
            segments: Segments::local(&objects).unwrap(),
            vault: Arc::new(vault),
            roster: Arc::default(),
            clock: Arc::<Hands>::clone(&clock),
            random: Arc::new(SystemRandom),
            attempts: Arc::default(),
            runs: Arc::default(),
            queued: Arc::default(),
            rotating: Arc::default(),
            arriving: Arc::default(),
            outside: Arc::default(),
            addresses: Arc::default(),
        };
        flow.begin_keys().await.unwrap();
        let document = flow.key_ring().await.unwrap().document;
        let trust = TrustMark {
            version: document.version,
            document: document.sha256,
        };
        flow.apply_documents(USER, "default", DOCUMENTS, Wanted::Any)
            .await
            .unwrap();
        let (bridge, journal) = (BridgeId::by_time(), JournalId::random());
        let (place, arriving) = enter(&flow, bridge, journal).await;
        let sent = Sent {
            arriving,
            offers: VecDeque::new(),
            others: VecDeque::new(),
        };
        let sent = Mutex::new(sent);
        let bench = Self {
            flow,
            clock,
            folder,
            bridge,
            journal,
            key,
            trust,
            place,
            sent,
        };
        bench.greet(0, &[]).await;
        bench
    }

    async fn run(&self, targets: &[&str]) -> RunRow {
        self.run_with(request_for(targets)).await
    }

    pub(super) async fn run_with(&self, request: RunRequest) -> RunRow {
        self.flow.create_run(USER, request, None).await.unwrap()
    }

    /// The next job that is offered to the bridge.
    pub(super) async fn offer(&self) -> Job {
        if self.sent().offers.is_empty() {
            dispatch::offer_batch(&self.flow).await.unwrap();
        }
        let offer = self.sent().offers.pop_front().expect("a job is offered");
        offer.verify([&self.key]).unwrap()
    }

    pub(super) async fn nothing_is_offered(&self) {
        assert_eq!(dispatch::offer_batch(&self.flow).await.unwrap(), 0);
        assert!(self.sent().offers.is_empty());
    }

    /// The next frame that the bridge was sent, offers aside.
    fn frame(&self) -> ToBridge {
        self.sent().others.pop_front().expect("a frame was sent")
    }

    pub(super) fn drain(&self) {
        self.sent().others.clear();
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        let mut sent = self.sent.lock().unwrap();
        while let Ok(frame) = sent.arriving.try_recv() {
            match frame {
                ToBridge::Offer(offer) => sent.offers.push_back(offer.job),
                other @ (ToBridge::Challenge(_)
                | ToBridge::Welcome(_)
                | ToBridge::Permit(_)
                | ToBridge::PermitRefused(_)
                | ToBridge::Cancel(_)
                | ToBridge::Ack(_)
                | ToBridge::LeaseEnded(_)
                | ToBridge::Renewed(_)
                | ToBridge::Trust(_)) => sent.others.push_back(other),
            }
        }
        sent
    }

    fn permits(&self, job: &Job, nonce: u8) {
        let frame = self.frame();
        let ToBridge::Permit(permit) = &frame else {
            panic!("{frame:?}")
        };
        let permit = permit.verify([&self.key]).unwrap();
        assert_eq!((permit.attempt, permit.fence), (job.attempt, job.fence));
        assert_eq!((permit.nonce, permit.bridge), ([nonce; 16], self.bridge));
        assert_eq!(permit.valid_for_ms, 10_000);
    }

    /// Opens the vault.
    pub(super) fn unseal(&self) {
        let source = KekSource::File(self.folder.path().join("kek"));
        let kek = Kek::create(&source, &stretching().unwrap(), None).unwrap();
        self.flow.vault.keyring().unseal(kek);
    }

    pub(super) async fn apply(&self, documents: &str) {
        self.flow
            .apply_documents(USER, "default", documents, Wanted::Any)
            .await
            .unwrap();
    }

    pub(super) async fn set_value(&self, credential: &str, value: &str) {
        let value = Secret::from(value.to_owned());
        self.flow
            .set_credential_value(USER, credential, value)
            .await
            .unwrap();
    }

    /// A vault that is open, a password in it, and an attempt that uses it on the first target.
    async fn offer_over_ssh(&self, credential: &str) -> (Job, OpeningKey) {
        if self.flow.vault.keyring().sealed().is_some() {
            self.unseal();
            let new = NewCredential {
                name: credential.to_owned(),
                kind: "password".to_owned(),
                account: "deploy".to_owned(),
                authority: None,
                outside: None,
                database: None,
            };
            self.flow
                .add_credential(USER, "default", new)
                .await
                .unwrap();
            self.set_value(credential, "hunter2 hunter2").await;
            let documents = "template: remote\nexecutor: ssh\nsteps: [ { run: id } ]\ntimeout: 10s\n---\n\
                             task: remote\ntemplate: remote\nlogin: { credential: deploy-password }\n\
                             targets: { names: [one] }\n";
            self.apply(documents).await;
        }
        let request = RunRequest {
            task: "remote".to_owned(),
            ..request_for(&["one"])
        };
        self.run_with(request).await;
        let job = self.offer().await;
        assert_eq!(job.login.as_ref().unwrap().name, credential);
        (job, OpeningKey::generate().unwrap())
    }

    /// The credential that the permit for this request brings.
    pub(super) fn releases(&self, job: &Job, nonce: u8) -> Released {
        let [released] = self
            .all_released(job, nonce)
            .try_into()
            .expect("a permit brings the credential");
        released
    }

    pub(super) fn all_released(&self, job: &Job, nonce: u8) -> Vec<Released> {
        let frame = self.frame();
        let ToBridge::Permit(permit) = &frame else {
            panic!("{frame:?}")
        };
        let permit = permit.verify([&self.key]).unwrap();
        assert_eq!((permit.attempt, permit.nonce), (job.attempt, [nonce; 16]));
        permit.released
    }

    pub(super) fn opens(&self, job: &Job, key: &OpeningKey, released: &Released) -> Vec<u8> {
        let body = codec::encode(job, BODY_BYTES_MAX).unwrap();
        let binding = Binding {
            cluster: job.cluster,
            bridge: job.bridge,
            job: job.job,
            attempt: job.attempt,
            fence: job.fence,
            lease: released.lease,
            body: Digest::of(&body),
        };
        key.open(&released.sealed, &binding)
            .unwrap()
            .expose()
            .to_vec()
    }

    /// From now on connections to the target are kept for so long.
    fn reuse(&self, ms: u64) {
        self.tamper(&format!(
            "UPDATE targets SET ssh = '{{\"port\":22,\"host_keys\":[],\"reuse_ms\":{ms}}}'"
        ));
    }

    /// What the only open connection is for.
    fn connection(&self) -> (String, String) {
        let database = Connection::open(self.folder.path().join("hub.db")).unwrap();
        let sql = "SELECT same, target FROM connections";
        database
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    }

    /// The permit for this request puts its attempt on the connection of this lease.
    fn joins(&self, nonce: u8, lease: LeaseId) {
        let frame = self.frame();
        let ToBridge::Permit(permit) = &frame else {
            panic!("{frame:?}")
        };
        let permit = permit.verify([&self.key]).unwrap();
        assert_eq!(
            (permit.nonce, permit.connection),
            ([nonce; 16], Some(lease))
        );
        assert_eq!(permit.released, []);
    }

    /// The lease that the bridge is told to be over.
    fn lease_ended(&self) -> LeaseId {
        let frame = self.frame();
        let ToBridge::LeaseEnded(ended) = &frame else {
            panic!("{frame:?}")
        };
        ended.verify([&self.key]).unwrap().lease
    }

    /// What has happened to leases, in order.
    async fn leases(&self) -> Vec<String> {
        let events: Result<Vec<EventRow>, StoreError> =
            self.flow.store.read(|tx| tx.events(0, 1000)).await;
        let actions = events.unwrap().into_iter().map(|event| event.action);
        actions
            .filter(|action| action.starts_with("lease."))
            .collect()
    }

    /// Somebody writes to the database behind the hub's back.
    fn tamper(&self, sql: &str) {
        let database = Connection::open(self.folder.path().join("hub.db")).unwrap();
        assert!(database.execute(sql, []).unwrap() > 0);
    }

    fn refuses(&self, nonce: u8) {
        let frame = self.frame();
        let ToBridge::PermitRefused(refused) = &frame else {
            panic!("{frame:?}")
        };
        assert_eq!(refused.verify([&self.key]).unwrap().nonce, [nonce; 16]);
    }

    fn acks(&self, through: u64, settled: bool) {
        self.is_ack(&self.frame(), through, settled);
    }

    fn is_ack(&self, frame: &ToBridge, through: u64, settled: bool) {
        let ToBridge::Ack(ack) = frame else {
            panic!("{frame:?}")
        };
        let ack = ack.verify([&self.key]).unwrap();
        assert_eq!((ack.through, ack.settled), (through, settled));
    }

    fn receipt(&self, job: &Job, event: ReceiptEvent) -> Receipt {
        Receipt {
            cluster: self.flow.vault.cluster(),
            bridge: self.bridge,
            journal: self.journal,
            attempt: job.attempt,
            fence: job.fence,
            event,
            wall: self.clock.now(),
            commits: 1,
            boot_ms: 1,
        }
    }

    pub(super) async fn say(&self, job: &Job, event: ReceiptEvent) -> Result<(), FlowError> {
        self.flow
            .take_receipt(self.bridge, "bridge-1", self.receipt(job, event))
            .await
    }

    async fn becomes(&self, job: &Job, event: ReceiptEvent, state: AttemptState) {
        self.say(job, event).await.unwrap();
        assert_eq!(self.row(job).await.state, state);
    }

    /// Has the attempt run.
    pub(super) async fn start(&self, job: &Job) {
        self.becomes(job, ReceiptEvent::Accepted, AttemptState::Accepted)
            .await;
        self.becomes(job, request(1), AttemptState::Starting).await;
        self.permits(job, 1);
        self.becomes(job, ReceiptEvent::Started, AttemptState::Running)
            .await;
    }

    async fn output(&self, job: &Job, position: usize, bytes: &[u8]) -> Result<u64, FlowError> {
        let bytes = Bytes::copy_from_slice(bytes);
        self.flow
            .take_output(self.bridge, job.attempt, position as u64, bytes)
            .await
    }

    async fn log(&self, job: &Job) -> Vec<u8> {
        let mut log = Vec::new();
        loop {
            let position = log.len() as u64;
            let more = self
                .flow
                .read_log(job.attempt, position, 1 << 20)
                .await
                .unwrap();
            if more.is_empty() {
                return log;
            }
            log.extend_from_slice(&more);
        }
    }

    pub(super) async fn lose(&self, job: &Job) {
        let (id, now) = (job.attempt, self.clock.now());
        let lost = self.flow.store.write(move |tx| {
            let row = tx.attempt(id)?.expect("it was offered");
            transition::apply(tx, &row, &AttemptEvent::Lost, &Note::hub("lost"), now)
        });
        assert_eq!(lost.await.unwrap().unwrap().state, AttemptState::Unknown);
    }

    pub(super) async fn resolve(&self, job: &Job, succeeded: bool) -> Result<(), FlowError> {
        let (id, now) = (job.attempt, self.clock.now());
        let resolved = self.flow.store.write(move |tx| {
            let row = tx.attempt(id)?.expect("it was offered");
            let why = "looked at it".to_owned();
            let note = Note {
                actor: USER.to_owned(),
                why,
                ..Note::default()
            };
            resolve_by_person(tx, &row, succeeded, &note, now)
        });
        resolved.await.map(drop)
    }

    fn hello(&self, bridge: BridgeId, seq: u64, open: &[OpenAttempt]) -> Hello {
        Hello {
            cluster: self.flow.vault.cluster(),
            bridge,
            nonce: [0; 16],
            journal: self.journal,
            seq,
            commits: seq,
            starts: vec![began(1, 0)],
            boot_id: [0; 16],
            wall: self.clock.now(),
            version: "0.1.0".to_owned(),
            executors: vec![ActionKind::Local, ActionKind::Ssh],
            policy: Some(Digest([0; 32])),
            locked: false,
            concurrent: 64,
            trust: self.trust,
            open: open.to_vec(),
        }
    }

    async fn greet(&self, seq: u64, open: &[OpenAttempt]) -> Vec<ToBridge> {
        let hello = self.hello(self.bridge, seq, open);
        let greeted = self.flow.greet(self.bridge, hello).await.unwrap();
        // Its new place, which takes what the old one took.
        let active = greeted.bridge.status == BridgeStatus::Active;
        let roster = &self.flow.roster;
        roster.change(self.bridge, |present| present.active = active);
        greeted.frames
    }

    /// Strikes the bridge out of the roster, as its link does when the connection has ended.
    async fn leave(&self) {
        self.flow.leave(self.place, Duration::ZERO).await;
        assert!(!self.flow.roster.is_present(self.bridge));
    }

    async fn reap(&self) {
        let mut forgotten = self.clock.now();
        reap::reap_once(&self.flow, Duration::ZERO, &mut forgotten)
            .await
            .unwrap();
    }

    async fn row(&self, job: &Job) -> AttemptRow {
        let id = job.attempt;
        self.read(move |tx| tx.attempt(id))
            .await
            .expect("it was offered")
    }

    pub(super) async fn job(&self, job: &Job) -> JobRow {
        let id = job.job;
        self.read(move |tx| tx.job(id)).await.expect("it was made")
    }

    pub(super) async fn find(&self, run: &RunRow) -> RunRow {
        let code = run.code.clone();
        self.read(move |tx| tx.run(&code))
            .await
            .expect("it was made")
    }

    async fn bridge(&self) -> BridgeRow {
        let id = self.bridge.to_string();
        self.read(move |tx| tx.bridge(&id))
            .await
            .expect("it was enrolled")
    }

    async fn tail(&self, job: &Job) -> usize {
        let id = job.attempt;
        self.read(move |tx| tx.log_tail(id))
            .await
            .expect("it was offered")
            .1
            .len()
    }

    async fn events(&self, job: &Job) -> Vec<EventRow> {
        let id = job.attempt.to_string();
        self.read(move |tx| tx.events_of(&id, 0, 1000)).await
    }

    /// How many records there are of this action.
    async fn count(&self, action: &str) -> usize {
        let events = self.read(|tx| tx.events(0, 1000)).await;
        events.iter().filter(|event| event.action == action).count()
    }

    /// Every run, job, attempt and record, as text.
    pub(super) async fn everything(&self) -> String {
        self.read(|tx| {
            let mut all = format!("{:#?}", tx.events(0, 1000)?);
            for run in tx.runs("", 100)? {
                all += &format!("{run:#?}");
                for job in tx.jobs(run.id, 0, 100)? {
                    all += &format!("{job:#?}{:#?}", tx.attempts_of(job.id)?);
                }
            }
            Ok(all)
        })
        .await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.flow.store.read(body).await.unwrap()
    }

    /// The files in the object store.
    fn objects(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.path().join("objects")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    files.push(path)
                }
            }
        }
        files
    }
}

/// Enrols a bridge and has it connect.
async fn enter(
    flow: &Flow,
    bridge: BridgeId,
    journal: JournalId,
) -> (Place, mpsc::Receiver<ToBridge>) {
    enter_at(flow, bridge, journal, "1").await
}

/// The same, at one of several sites; the bridge and its site have names that end so.
async fn enter_at(
    flow: &Flow,
    bridge: BridgeId,
    journal: JournalId,
    end: &'static str,
) -> (Place, mpsc::Receiver<ToBridge>) {
    let receipts = SigningKey::from_seed(&SigningKey::new_seed().unwrap())
        .unwrap()
        .public();
    let pin = Key::generate().unwrap().pin();
    let site: Result<_, StoreError> = flow
        .store
        .write(move |tx| {
            let site = tx.site(&format!("site-{end}"))?.expect("it was applied").id;
            let new = NewBridge {
                id: bridge,
                site,
                name: format!("bridge-{end}"),
                receipt_key: hex::encode(&receipts.0),
                pin,
                issuer: pin,
                certificate_expires_at: NOW.after(Duration::from_secs(86_400)),
                version: "0.1.0".to_owned(),
            };
            tx.add_bridge(&new, NOW)?;
            Ok(site)
        })
        .await;
    let present = Present {
        site: site.unwrap(),
        name: format!("bridge-{end}"),
        pin,
        journal,
        receipt_key: receipts.digest(),
        executors: vec![ActionKind::Local, ActionKind::Ssh],
        concurrent: 64,
        active: true,
        locked: false,
        policy: Some(Digest([0; 32])),
        trust: 1,
        trust_sent: 1,
        address: "10.0.0.9:1".to_owned(),
        clock_offset_ms: 0,
        heard: NOW,
    };
    flow.roster.challenged(bridge, [0; 16]);
    let (frames, arriving) = mpsc::channel(1024);
    (
        flow.roster
            .enter(bridge, present, frames, CancellationToken::new()),
        arriving,
    )
}

pub(super) fn request_for(targets: &[&str]) -> RunRequest {
    RunRequest {
        probe: false,
        task: "look".to_owned(),
        inputs: BTreeMap::new(),
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
        labels: BTreeMap::new(),
        reason: String::new(),
        ticket: String::new(),
        at_once: None,
        project: "default".to_owned(),
        rendered: None,
        approval: None,
    }
}

fn request(nonce: u8) -> ReceiptEvent {
    ReceiptEvent::StartRequest {
        nonce: [nonce; 16],
        keys: None,
    }
}

pub(super) fn request_with(nonce: u8, key: &OpeningKey) -> ReceiptEvent {
    ReceiptEvent::StartRequest {
        nonce: [nonce; 16],
        keys: Some(AttemptKeys {
            seal_to: key.public(),
            ssh: None,
            connection: None,
        }),
    }
}

fn request_on(nonce: u8, lease: LeaseId) -> ReceiptEvent {
    let key = OpeningKey::generate().unwrap();
    ReceiptEvent::StartRequest {
        nonce: [nonce; 16],
        keys: Some(AttemptKeys {
            seal_to: key.public(),
            ssh: None,
            connection: Some(lease),
        }),
    }
}

fn began(id: u8, commits: u64) -> Start {
    let id = StartId::from_bytes([id; 16]);
    Start { id, commits }
}

fn not_started() -> ReceiptEvent {
    ReceiptEvent::NotStarted {
        reason: "no room".to_owned(),
    }
}

/// An end, with this as the whole log.
pub(super) fn exited(outcome: Outcome, log: &[u8]) -> ReceiptEvent {
    let extent = |bytes: &[u8]| Extent {
        bytes: bytes.len() as u64,
        sha256: Some(Digest::of(bytes)),
    };
    ReceiptEvent::Exited(Exit {
        outcome,
        step: 0,
        runtime_ms: 7,
        log: extent(log),
        stdout: extent(log),
        stderr: extent(b""),
        all_dead: true,
        masked: Some(0),
        message: String::new(),
        found: None,
    })
}

fn open(job: &Job) -> OpenAttempt {
    OpenAttempt {
        attempt: job.attempt,
        job: job.job,
        fence: job.fence,
    }
}

/// Bytes that do not repeat soon.
fn byte(at: usize) -> u8 {
    u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xff).unwrap()
}

fn assert_misbehaved<T: std::fmt::Debug>(result: &Result<T, FlowError>) {
    assert!(
        matches!(result, Err(FlowError::Misbehaved(_))),
        "{result:?}"
    );
}
