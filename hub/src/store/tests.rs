//! What a transaction promises: all or nothing, on its own, and never against a row that has changed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all, join3};
use steward_certs::key::Key;
use steward_shared::id::{
    AttemptId, BridgeId, JobId, JournalId, ProjectId, RunId, SiteId, TargetId, TaskId, TemplateId,
};
use steward_shared::job::Digest;
use steward_shared::template::{SshTarget, TelnetTarget};
use steward_shared::time::Timestamp;

use super::*;
use crate::model::attempt::AttemptState;
use crate::model::template::TemplateState;

const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_000);

#[tokio::test]
async fn writes_that_wait_are_committed_together_and_fail_alone() {
    let bench = Bench::new();
    let gate = bench.hold_the_writer();
    let writes: Vec<_> = (0..100)
        .map(|number: u32| {
            bench.store.write(move |tx| {
                tx.set_setting(&number.to_string(), "kept")?;
                if number % 10 == 3 {
                    return Err(StoreError::Stale { act: "test" });
                }
                Ok(number)
            })
        })
        .collect();
    let mut committed = Box::pin(bench.store.committed());
    committed.as_mut().enable();
    let mut writes = Box::pin(join_all(writes));
    begin(writes.as_mut()).await;
    drop(gate);
    let results = writes.await;
    committed.await;
    for (number, result) in (0..100).zip(results) {
        let failed = number % 10 == 3;
        assert_eq!(result.is_err(), failed, "{number}");
        let name = number.to_string();
        assert_eq!(bench.setting(&name).await.is_none(), failed, "{number}");
    }
}

#[tokio::test]
async fn panic_in_a_transaction_ends_neither_the_writer_nor_its_neighbours() {
    let bench = Bench::new();
    let gate = bench.hold_the_writer();
    let write = |name: &'static str, panics: bool| {
        bench.store.write(move |tx| {
            tx.set_setting(name, "kept")?;
            assert!(!panics, "on purpose");
            Ok::<_, StoreError>(())
        })
    };
    let all = join3(
        write("before", false),
        write("panics", true),
        write("after", false),
    );
    let mut all = Box::pin(all);
    begin(all.as_mut()).await;
    drop(gate);
    let (before, panicked, after) = all.await;
    assert!(before.is_ok() && after.is_ok());
    assert!(matches!(panicked, Err(StoreError::Stopped)));
    assert_eq!(bench.setting("before").await.as_deref(), Some("kept"));
    assert_eq!(bench.setting("panics").await, None);
    assert_eq!(bench.setting("after").await.as_deref(), Some("kept"));
}

#[tokio::test]
async fn panic_in_a_reader_takes_no_connection_away() {
    let bench = Bench::new();
    for _ in 0..=READERS {
        let read: Result<(), StoreError> = bench.store.read(|_| panic!("on purpose")).await;
        assert!(matches!(read, Err(StoreError::Stopped)));
    }
    assert_eq!(bench.setting("x").await, None);
}

#[tokio::test]
async fn full_disk_fails_what_found_no_room_and_is_over_when_there_is_room() {
    let bench = Bench::new();
    let pages = |limit: &'static str| {
        bench.store.write(move |tx| {
            let sql = format!("PRAGMA max_page_count={limit}");
            let all = tx
                .connection
                .query_row(&sql, [], |row| row.get::<_, i64>(0));
            all.map(drop).map_err(act("limit the database"))
        })
    };
    // The limit cannot be below what there is already: from now on there is no room at all.
    pages("1").await.unwrap();
    let gate = bench.hold_the_writer();
    let write = |name: &'static str, bytes: usize| {
        bench
            .store
            .write(move |tx| tx.set_setting(name, &"x".repeat(bytes)))
    };
    let mut all = Box::pin(join3(write("a", 1), write("large", 1 << 20), write("b", 1)));
    begin(all.as_mut()).await;
    drop(gate);
    let (_, large, last) = all.await;
    assert!(matches!(large, Err(StoreError::Full)), "{large:?}");
    assert!(last.is_ok(), "{last:?}");
    pages("1000000").await.unwrap();
    write("large", 1 << 20).await.unwrap();
    assert_eq!(
        bench.setting("large").await.map(|text| text.len()),
        Some(1 << 20)
    );
    assert_eq!(bench.setting("b").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn reader_sees_one_moment_and_cannot_write() {
    let bench = Bench::new();
    bench.set("x", "old").await;
    let (seen, go_on) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let reading = bench.store.read(move |tx| {
        let before = tx.setting("x")?;
        seen.0.send(()).unwrap();
        assert!(go_on.1.recv().is_err(), "dropped, never sent");
        Ok::<_, StoreError>((
            before,
            tx.setting("x")?,
            tx.set_setting("x", "read").is_err(),
        ))
    });
    let writing = async {
        tokio::task::spawn_blocking(move || seen.1.recv().unwrap())
            .await
            .unwrap();
        bench.set("x", "new").await;
        drop(go_on.0);
    };
    let (read, ()) = join(reading, writing).await;
    let old = Some("old".to_owned());
    assert_eq!(read.unwrap(), (old.clone(), old, true));
    assert_eq!(bench.setting("x").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn what_was_answered_is_there_after_reopening() {
    let bench = Bench::new();
    bench.set("x", "kept").await;
    let again = Store::open(&bench.folder.path().join("hub.db")).unwrap();
    let kept: Result<_, StoreError> = again.read(|tx| tx.setting("x")).await;
    assert_eq!(kept.unwrap().as_deref(), Some("kept"));
}

#[tokio::test]
async fn attempt_changes_only_from_the_state_and_under_the_fence_that_were_read() {
    let bench = Bench::new();
    let row = bench.attempt().await;
    let change = |from: AttemptState, to: AttemptRow| {
        bench.store.write(move |tx| tx.change_attempt(from, &to))
    };
    let accepted = AttemptRow {
        state: AttemptState::Accepted,
        ..row.clone()
    };
    let other_fence = AttemptRow {
        fence: row.fence + 1,
        ..accepted.clone()
    };
    for (from, to) in [
        (AttemptState::Offered, other_fence),
        (AttemptState::Starting, accepted.clone()),
        (
            AttemptState::Offered,
            AttemptRow {
                id: AttemptId::random(),
                ..accepted.clone()
            },
        ),
    ] {
        let changed = change(from, to).await;
        assert!(
            matches!(changed, Err(StoreError::Stale { .. })),
            "{changed:?}"
        );
    }
    assert_eq!(bench.find(row.id).await.state, AttemptState::Offered);
    let racing = (
        change(AttemptState::Offered, accepted),
        change(
            AttemptState::Offered,
            AttemptRow {
                state: AttemptState::Withdrawn,
                ..row.clone()
            },
        ),
    );
    let (first, second) = join(racing.0, racing.1).await;
    assert!(first.is_ok(), "{first:?}");
    assert!(
        matches!(second, Err(StoreError::Stale { .. })),
        "{second:?}"
    );
    assert_eq!(bench.find(row.id).await.state, AttemptState::Accepted);
}

#[tokio::test]
async fn record_of_a_change_that_failed_is_not_written() {
    let bench = Bench::new();
    let event = || Event {
        actor: "hub".to_owned(),
        action: "test.done",
        ..Event::default()
    };
    let failed: Result<(), StoreError> = bench
        .store
        .write(move |tx| {
            tx.record(NOW, &event())?;
            Err(StoreError::Stale { act: "test" })
        })
        .await;
    assert!(failed.is_err());
    let done: Result<(), StoreError> = bench.store.write(move |tx| tx.record(NOW, &event())).await;
    done.unwrap();
    let events: Result<_, StoreError> = bench.store.read(|tx| tx.events(0, 10)).await;
    let events = events.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].seq, events[0].action.as_str()), (1, "test.done"));
}

#[tokio::test]
async fn fences_and_seqs_only_grow() {
    let bench = Bench::new();
    let bridge = bench.attempt().await.bridge;
    let take: Result<_, StoreError> = bench
        .store
        .write(move |tx| {
            let fences = [tx.next_fence()?, tx.next_fence()?];
            Ok((fences, [tx.next_seq(bridge)?, tx.next_seq(bridge)?]))
        })
        .await;
    let ([f1, f2], [s1, s2]) = take.unwrap();
    assert!(f1 < f2 && s1 < s2);
    let failed: Result<(), StoreError> = bench
        .store
        .write(move |tx| {
            tx.next_fence()?;
            tx.next_seq(bridge)?;
            Err(StoreError::Stopped)
        })
        .await;
    assert!(failed.is_err());
    let next: Result<_, StoreError> = bench
        .store
        .write(move |tx| Ok((tx.next_fence()?, tx.next_seq(bridge)?)))
        .await;
    assert_eq!(next.unwrap(), (f2 + 1, s2 + 1));
}

#[tokio::test]
async fn log_grows_only_from_its_end_and_is_read_from_where_it_lies() {
    let bench = Bench::new();
    let id = bench.attempt().await.id;
    let append = |length: u64, bytes: &'static [u8]| {
        bench
            .store
            .write(move |tx| tx.append_log(id, length, bytes))
    };
    append(0, b"one\0").await.unwrap();
    append(4, b"\xfftwo").await.unwrap();
    for wrong in [0, 4, 9] {
        let appended = append(wrong, b"x").await;
        assert!(matches!(appended, Err(StoreError::Stale { .. })), "{wrong}");
    }
    let segment = |length: u64, position: u64| {
        let sha256 = Digest::of(b"12345678").to_string();
        bench
            .store
            .write(move |tx| tx.add_segment(id, length, position, 8, &sha256))
    };
    assert!(matches!(segment(7, 0).await, Err(StoreError::Stale { .. })));
    assert!(
        matches!(bench.part(id, 7).await, Some(LogPart::Tail(0, tail)) if tail == b"one\0\xfftwo")
    );
    assert!(bench.part(id, 8).await.is_none());
    segment(8, 0).await.unwrap();
    append(8, b"end").await.unwrap();
    for position in [0, 7] {
        let found = bench.part(id, position).await;
        assert!(
            matches!(
                &found,
                Some(LogPart::Segment {
                    position: 0,
                    bytes: 8,
                    ..
                })
            ),
            "{found:?}"
        );
    }
    assert!(matches!(bench.part(id, 8).await, Some(LogPart::Tail(8, tail)) if tail == b"end"));
    assert!(bench.part(id, 11).await.is_none());
}

#[tokio::test]
async fn segment_comes_back_byte_for_byte_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let segments = Segments::local(folder.path()).unwrap();
    let attempt = AttemptId::random();
    let contents = [
        Bytes::from_static(b"\0one\xff"),
        Bytes::from_static(b"\0one\xff and more"),
    ];
    for bytes in &contents {
        let sha256 = Digest::of(bytes).to_string();
        segments
            .put(attempt, 7, &sha256, bytes.clone())
            .await
            .unwrap();
    }
    for bytes in &contents {
        let sha256 = Digest::of(bytes).to_string();
        let all = segments
            .read(attempt, 7, &sha256, 0..bytes.len() as u64)
            .await
            .unwrap();
        assert_eq!(all, bytes);
        assert_eq!(
            segments.read(attempt, 7, &sha256, 1..4).await.unwrap(),
            &b"one"[..]
        );
    }
    let sha256 = Digest::of(&contents[0]).to_string();
    assert!(segments.read(attempt, 8, &sha256, 0..1).await.is_err());
    assert!(
        segments
            .read(AttemptId::random(), 7, &sha256, 0..1)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn request_is_remembered_once_per_user_and_forgotten_when_old() {
    let bench = Bench::new();
    let remember = |user: &'static str| {
        let made = Remembered {
            request: "r".to_owned(),
            object: "o".to_owned(),
        };
        bench
            .store
            .write(move |tx| tx.remember(user, "key", &made, NOW))
    };
    remember("one").await.unwrap();
    assert!(remember("one").await.is_err());
    remember("other").await.unwrap();
    for (before, forgotten) in [(NOW, 0), (NOW.after(Duration::from_millis(1)), 2)] {
        let done: Result<_, StoreError> = bench
            .store
            .write(move |tx| tx.forget_requests(before))
            .await;
        assert_eq!(done.unwrap(), forgotten);
    }
}

struct Bench {
    store: Store,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: Store::open(&folder.path().join("hub.db")).unwrap(),
            folder,
        }
    }

    /// Keeps the writer busy until what is returned is dropped, so that what is written waits together.
    fn hold_the_writer(&self) -> mpsc::Sender<()> {
        let (gate, held) = mpsc::channel::<()>();
        let hold = move |_: &mut Tx<'_>| {
            assert!(held.recv().is_err(), "dropped, never sent");
            Ok::<_, StoreError>(())
        };
        let (work, _) = writer::work(hold, |()| ());
        self.store.writer.try_send(work).unwrap();
        gate
    }

    async fn set(&self, name: &'static str, value: &'static str) {
        let set: Result<(), StoreError> = self
            .store
            .write(move |tx| tx.set_setting(name, value))
            .await;
        set.unwrap();
    }

    async fn setting(&self, name: &str) -> Option<String> {
        let name = name.to_owned();
        let read: Result<_, StoreError> = self.store.read(move |tx| tx.setting(&name)).await;
        read.unwrap()
    }

    async fn part(&self, id: AttemptId, position: u64) -> Option<LogPart> {
        let part: Result<_, StoreError> =
            self.store.read(move |tx| tx.log_part(id, position)).await;
        part.unwrap()
    }

    async fn find(&self, id: AttemptId) -> AttemptRow {
        let found: Result<_, StoreError> = self.store.read(move |tx| tx.attempt(id)).await;
        found.unwrap().expect("it was added")
    }

    /// An attempt that was offered, with all that it belongs to.
    async fn attempt(&self) -> AttemptRow {
        let id = AttemptId::random();
        let added: Result<(), StoreError> = self.store.write(move |tx| add_attempt(tx, id)).await;
        added.unwrap();
        self.find(id).await
    }
}

/// Has everything in this future sent to the writer, which is held.
async fn begin<F: Future>(mut future: Pin<&mut F>) {
    let pending = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await;
    assert!(pending, "the writer is not held");
}

fn add_attempt(tx: &mut Tx<'_>, id: AttemptId) -> Result<(), StoreError> {
    let (site, target, run) = add_run(tx)?;
    let (job, bridge) = (JobId::by_time(), BridgeId::by_time());
    tx.add_job(job, run, 0, (target, site), None)?;
    let new = NewBridge {
        id: bridge,
        site,
        name: name(),
        receipt_key: name(),
        issuer: Key::generate().unwrap().pin(),
        pin: Key::generate().unwrap().pin(),
        certificate_expires_at: NOW,
        version: name(),
    };
    tx.add_bridge(&new, NOW)?;
    let new = NewAttempt {
        log_bytes_max: 1 << 20,
        id,
        job,
        run,
        number: 1,
        fence: tx.next_fence()?,
        bridge,
        journal: JournalId::random(),
        seq: tx.next_seq(bridge)?,
        envelope: Vec::new(),
        runtime_ms: 1,
        not_after: NOW,
        rendered: Digest::of(b""),
    };
    tx.add_attempt(&new, NOW)
}

/// A run without jobs, and the site and target that its one job may have.
fn add_run(tx: &mut Tx<'_>) -> Result<(SiteId, TargetId, RunId), StoreError> {
    let (project, site, target) = (ProjectId::by_time(), SiteId::by_time(), TargetId::by_time());
    tx.add_project(&ProjectRow {
        id: project,
        name: name(),
        title: name(),
        created_at: NOW,
    })?;
    let new = SiteRow {
        id: site,
        name: name(),
        project,
        project_name: name(),
        title: name(),
        created_at: NOW,
    };
    tx.add_site(&new)?;
    let new = TargetRow {
        id: target,
        project,
        project_name: name(),
        site,
        site_name: name(),
        name: name(),
        address: name(),
        platform: name(),
        labels: std::collections::BTreeMap::new(),
        ssh: SshTarget::default(),
        sql: None,
        telnet: TelnetTarget::default(),
        http: None,
        created_at: NOW,
    };
    tx.add_target(&new)?;
    let (task, template) = add_task(tx, project)?;
    let new = NewRun {
        id: RunId::by_time(),
        code: name(),
        project,
        task,
        template,
        credential: None,
        rotation: None,
        probe: false,
        requester: name(),
        reason: name(),
        ticket: name(),
        inputs: "{}".to_owned(),
        at_once: 1,
        stop_after: 0,
        expires_at: NOW,
        total: 1,
    };
    tx.add_run(&new, NOW)?;
    Ok((site, target, new.id))
}

fn add_task(tx: &mut Tx<'_>, project: ProjectId) -> Result<(TaskId, TemplateId), StoreError> {
    let template = TemplateRow {
        id: TemplateId::by_time(),
        project,
        project_name: name(),
        name: name(),
        version: 1,
        source: name(),
        manifest: None,
        sha256: name(),
        state: TemplateState::Published,
        comment: String::new(),
        retired_because: None,
        author: name(),
        created_at: NOW,
    };
    tx.add_template(&template)?;
    let task = TaskRow {
        id: TaskId::by_time(),
        project,
        project_name: name(),
        name: name(),
        template: template.id,
        source: name(),
        author: name(),
        created_at: NOW,
    };
    tx.put_task(&task)?;
    Ok((task.id, template.id))
}

fn name() -> String {
    "one".to_owned()
}
