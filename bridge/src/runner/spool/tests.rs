//! Logs are what was appended, whatever happens around them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use steward_shared::job::Digest;
use steward_shared::limits::RECORD_BYTES_MAX;
use steward_shared::log::{HEADER_BYTES, Records, Stream};
use tokio::time::timeout;

use super::*;

const SMALL: SpoolLimits = SpoolLimits {
    attempt_bytes: 256 * 1024,
    bridge_bytes: 384 * 1024,
    kept_bytes: 0,
    kept_bytes_at_end: 0,
};
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn log_holds_both_streams_in_order_and_its_extents() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), SpoolLimits::default()).0;
    let attempt = AttemptId::random();
    let mut writer = spool.create(attempt, OnFull::Block).await.unwrap();
    let line = vec![b'\xff'; RECORD_BYTES_MAX * 2 + 1];
    writer
        .append(0, Stream::Stdout, 1, b"one\0\n")
        .await
        .unwrap();
    writer.append(0, Stream::Stderr, 2, b"two").await.unwrap();
    writer.append(3, Stream::Stdout, 9, &line).await.unwrap();
    let extents = writer.finish().await.unwrap();

    let log = spool.read(attempt, 0, usize::MAX).await.unwrap();
    let mut records = Records::default();
    records.push(&log);
    let mut seen = Vec::new();
    while let Some((header, bytes)) = records.next_record().unwrap() {
        seen.push((
            header.seq,
            header.step,
            header.stream,
            header.at_ms,
            bytes.len(),
        ));
    }
    assert_eq!(
        seen,
        [
            (0, 0, Stream::Stdout, 1, 5),
            (1, 0, Stream::Stderr, 2, 3),
            (2, 3, Stream::Stdout, 9, RECORD_BYTES_MAX),
            (3, 3, Stream::Stdout, 9, RECORD_BYTES_MAX),
            (4, 3, Stream::Stdout, 9, 1),
        ]
    );
    let extent = |bytes: &[u8]| Extent {
        bytes: bytes.len() as u64,
        sha256: Some(Digest::of(bytes)),
    };
    assert_eq!(extents.log, extent(&log));
    assert_eq!(extents.stdout, extent(&[b"one\0\n", &line[..]].concat()));
    assert_eq!(extents.stderr, extent(b"two"));
    assert_eq!(*spool.synced(attempt).unwrap().borrow(), extents.log.bytes);
}

#[tokio::test]
async fn full_spool_makes_the_writer_wait_until_the_hub_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), SMALL).0;
    let attempt = AttemptId::random();
    let mut writer = spool.create(attempt, OnFull::Block).await.unwrap();
    let mut written = 0;
    let piece = vec![b'x'; 60_000];
    let more = async {
        loop {
            writer.append(0, Stream::Stdout, 0, &piece).await.unwrap();
            written += 1;
        }
    };
    assert!(timeout(Duration::from_millis(300), more).await.is_err());
    assert_eq!(written, 4);
    let mut synced = spool.synced(attempt).unwrap();
    timeout(SOON, synced.wait_for(|at| *at == 4 * 60_024))
        .await
        .unwrap()
        .unwrap();
    {
        let waiting = writer.append(0, Stream::Stdout, 0, &piece);
        let acked = async {
            tokio::task::yield_now().await;
            spool.acked(attempt, 60_024).await.unwrap();
        };
        let both = async { tokio::join!(waiting, acked) };
        timeout(SOON, both).await.unwrap().0.unwrap();
    }
    // Another attempt is bounded by what all have together.
    let mut other = spool
        .create(AttemptId::random(), OnFull::Kill)
        .await
        .unwrap();
    other.append(0, Stream::Stderr, 0, &piece).await.unwrap();
    other.append(0, Stream::Stderr, 0, &piece).await.unwrap();
    let full = other.append(0, Stream::Stderr, 0, &piece).await;
    assert!(matches!(full, Err(SpoolError::Full)));
    spool.remove(attempt).await.unwrap();
    other.append(0, Stream::Stderr, 0, &piece).await.unwrap();
    // What a dead command's pipes hold is taken all the same.
    other.draining().cancel();
    for _ in 0..6 {
        timeout(SOON, other.append(0, Stream::Stderr, 0, &piece))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(
        timeout(SOON, other.finish())
            .await
            .unwrap()
            .unwrap()
            .stderr
            .bytes,
        9 * 60_000
    );
}

#[tokio::test]
async fn torn_tail_is_cut_to_the_last_whole_record() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), SpoolLimits::default());
    let attempt = AttemptId::random();
    let mut writer = spool.create(attempt, OnFull::Block).await.unwrap();
    writer.append(0, Stream::Stdout, 0, b"kept").await.unwrap();
    writer.append(1, Stream::Stderr, 0, b"too").await.unwrap();
    let whole = writer.finish().await.unwrap();
    let path = log::path(folder.path(), attempt);
    let record = fs::read(&path).unwrap()[..HEADER_BYTES + 2].to_vec();
    for tail in [&record[..], &record[..5], &[0; 100], &[0xff; 30]] {
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(tail)
            .unwrap();
        let (spool, recovered) = open(folder.path(), SpoolLimits::default());
        let Extents {
            log,
            stdout,
            stderr,
        } = whole;
        assert_eq!(
            recovered,
            [Recovered {
                attempt,
                from: 0,
                log,
                stdout,
                stderr
            }]
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), log.bytes);
        assert_eq!(
            spool.read(attempt, 0, 4096).await.unwrap().len() as u64,
            log.bytes
        );
    }
}

#[tokio::test]
async fn acknowledged_output_leaves_the_disk_and_the_counts_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), SpoolLimits::default());
    let attempt = AttemptId::random();
    let mut writer = spool.create(attempt, OnFull::Block).await.unwrap();
    for _ in 0..100 {
        writer
            .append(0, Stream::Stdout, 0, &[b'o'; 40_000])
            .await
            .unwrap();
        writer
            .append(0, Stream::Stderr, 0, &[b'e'; 10_000])
            .await
            .unwrap();
    }
    let whole = writer.finish().await.unwrap();
    let path = log::path(folder.path(), attempt);
    let before = fs::metadata(&path).unwrap().blocks();
    let acked = 4_000_000;
    spool.acked(attempt, acked).await.unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.len(), whole.log.bytes);
    assert!(
        after.blocks() * 2 < before,
        "{} of {before} blocks are left",
        after.blocks()
    );
    assert!(matches!(
        spool.read(attempt, 0, 10).await,
        Err(SpoolError::Gone)
    ));
    let tail = spool.read(attempt, acked, usize::MAX).await.unwrap();
    assert_eq!(tail.len() as u64, whole.log.bytes - acked);

    let (spool, recovered) = open(folder.path(), SpoolLimits::default());
    let [found] = recovered.as_slice() else {
        panic!("{recovered:?}")
    };
    assert!(found.from > 0 && found.from <= acked);
    let cut = |extent: Extent| Extent {
        sha256: None,
        ..extent
    };
    assert_eq!(found.log, cut(whole.log));
    assert_eq!(found.stdout, cut(whole.stdout));
    assert_eq!(found.stderr, cut(whole.stderr));
    assert_eq!(spool.read(attempt, acked, usize::MAX).await.unwrap(), tail);
    spool.remove(attempt).await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn spool_is_private_and_follows_no_links() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("spool");
    let (spool, _) = open(&home, SpoolLimits::default());
    let attempt = AttemptId::random();
    let _writer = spool.create(attempt, OnFull::Block).await.unwrap();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(&log::path(&home, attempt)), 0o600);
    // The same attempt again, and a planted link.
    assert!(spool.create(attempt, OnFull::Block).await.is_err());
    let planted = AttemptId::random();
    symlink(folder.path().join("victim"), log::path(&home, planted)).unwrap();
    assert!(spool.create(planted, OnFull::Block).await.is_err());
    assert!(!folder.path().join("victim").exists());

    fs::set_permissions(&home, fs::Permissions::from_mode(0o750)).unwrap();
    let opened = Spool::open(&home, SpoolLimits::default(), Stop::default());
    assert!(matches!(opened, Err(SpoolError::Unsafe { .. })));
    let link = folder.path().join("link");
    symlink(&home, &link).unwrap();
    let opened = Spool::open(&link, SpoolLimits::default(), Stop::default());
    assert!(matches!(opened, Err(SpoolError::Unsafe { .. })));
}

#[tokio::test]
async fn full_disk_is_waited_out_and_nothing_is_lost() {
    assert!(geteuid().is_root(), "only root can mount a small disk");
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"])
        .arg(&disk)
        .status();
    assert!(mount.unwrap().success());
    let limits = SpoolLimits {
        kept_bytes: 0,
        kept_bytes_at_end: 0,
        ..SpoolLimits::default()
    };
    let (spool, _) = open(&disk, limits);
    let filler = disk.join("filler.log");
    fs::write(&filler, vec![1; 900 * 1024]).unwrap();
    let attempt = AttemptId::random();
    let mut writer = spool.create(attempt, OnFull::Kill).await.unwrap();
    writer
        .append(0, Stream::Stdout, 0, &[b'x'; 200 * 1024])
        .await
        .unwrap();
    let full = async {
        while writer.append(0, Stream::Stdout, 0, b"y").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, full).await.unwrap();
    fs::remove_file(&filler).unwrap();
    let extents = timeout(SOON, writer.finish()).await.unwrap().unwrap();
    let log = spool.read(attempt, 0, usize::MAX).await.unwrap();
    assert_eq!(extents.log.sha256, Some(Digest::of(&log)));
    drop(spool);
    let unmount = std::process::Command::new("umount").arg(&disk).status();
    assert!(unmount.unwrap().success());
}

#[tokio::test]
async fn log_that_another_process_writes_is_left_alone_until_it_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let (former, _) = open(folder.path(), SMALL);
    let (theirs, full) = (AttemptId::random(), AttemptId::random());
    let path = log::path(folder.path(), theirs);
    let mut writer = former.create(theirs, OnFull::Block).await.unwrap();
    writer.append(0, Stream::Stdout, 0, b"kept").await.unwrap();
    let whole = writer.finish().await.unwrap().log.bytes;
    // What is half written is no crash's tail.
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[0; 7]).unwrap();
    let mut other = former.create(full, OnFull::Block).await.unwrap();
    let much = vec![0; 200 * 1024];
    other.append(0, Stream::Stdout, 0, &much).await.unwrap();
    let waiting = other.finish().await.unwrap().log.bytes;

    let (spool, recovered) =
        Spool::open_beside(folder.path(), SMALL, Stop::default(), &[theirs].into()).unwrap();
    assert!(recovered.iter().map(|log| log.attempt).eq([full]));
    assert!(spool.synced(theirs).is_none());
    assert_eq!(fs::metadata(&path).unwrap().len(), whole + 7);
    // The room that the others take up is not the former one's any more.
    former.keep_only(&[theirs].into());
    assert!(former.synced(full).is_none() && former.synced(theirs).is_some());
    let mut room = former
        .create(AttemptId::random(), OnFull::Kill)
        .await
        .unwrap();
    for _ in 0..2 {
        room.append(0, Stream::Stdout, 0, &much[..100 * 1024])
            .await
            .unwrap();
    }

    let adopted = spool.adopt(theirs).await.unwrap().unwrap();
    assert_eq!((adopted.attempt, adopted.log.bytes), (theirs, whole));
    assert_eq!(fs::metadata(&path).unwrap().len(), whole);
    let read = spool.read(theirs, 0, 4096).await.unwrap();
    assert_eq!(read.len() as u64, whole);
    assert!(spool.adopt(AttemptId::random()).await.unwrap().is_none());
    assert_eq!(
        spool.read(full, 0, usize::MAX).await.unwrap().len() as u64,
        waiting
    );
}

#[tokio::test]
async fn what_is_kept_of_the_disk_is_for_logs_that_end() {
    let limits = SpoolLimits {
        kept_bytes: u64::MAX,
        ..SMALL
    };
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path(), limits).0;
    let (waits, ends) = (AttemptId::random(), AttemptId::random());
    let mut writer = spool.create(waits, OnFull::Block).await.unwrap();
    let mut killed = spool.create(ends, OnFull::Kill).await.unwrap();
    writer.append(0, Stream::Stdout, 0, b"last").await.unwrap();
    let full = async {
        loop {
            if let Err(error) = killed.append(0, Stream::Stdout, 0, b"x").await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    let full = timeout(SOON, full).await.unwrap();
    assert!(matches!(full, SpoolError::Full), "{full}");
    assert_eq!(*writer.synced().borrow(), 0, "it has grown");
    let extents = timeout(SOON, writer.finish()).await.unwrap().unwrap();
    assert_eq!(extents.stdout.bytes, 4);
    assert_eq!(*spool.synced(waits).unwrap().borrow(), extents.log.bytes);
    timeout(SOON, killed.finish()).await.unwrap().unwrap();
}

fn open(folder: &Path, limits: SpoolLimits) -> (Spool, Vec<Recovered>) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).ok();
    Spool::open(folder, limits, Stop::default()).unwrap()
}
