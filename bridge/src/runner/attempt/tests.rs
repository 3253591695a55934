//! Attempts with real processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use steward_shared::id::AttemptId;
use steward_shared::job::{Digest, Job, OnFull, Outcome};
use steward_shared::log::Stream;
use steward_shared::stop::Stop;
use steward_shared::template::{Piece, Step, StepKind, Value, When, Word};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::bench::{Bench, SOON, sh, text, text_of};
use super::*;
use crate::policy::Account;
use crate::policy::tests::{local, me, run};
use crate::runner::spool::SpoolLimits;

#[tokio::test]
async fn exit_code_of_the_deciding_step_is_told() {
    let bench = Bench::new();
    let ok = Step {
        ok: vec![0, 3],
        ..sh("exit 3")
    };
    for (steps, outcome, step) in [
        (vec![sh("true")], Outcome::Succeeded(0), 0),
        (vec![sh("exit 7"), sh("echo never")], Outcome::Exited(7), 0),
        (vec![ok.clone(), sh("exit 1")], Outcome::Exited(1), 1),
        (vec![sh("true"), ok], Outcome::Succeeded(3), 1),
        (vec![sh("kill -9 $$")], Outcome::Signalled(9), 0),
    ] {
        let (exit, log) = bench.run(local(steps)).await;
        assert_eq!((&exit.outcome, exit.step), (&outcome, step));
        assert!(
            exit.all_dead && log.is_empty() && exit.message.is_empty(),
            "{exit:?}"
        );
    }
}

#[tokio::test]
async fn step_whose_condition_does_not_hold_is_passed_over() {
    let bench = Bench::new();
    let when = |name: &str| {
        Some(When {
            input: name.to_owned(),
            is: None,
        })
    };
    let given = Step {
        when: when("given"),
        ..sh("echo given")
    };
    let absent = Step {
        when: when("absent"),
        ..sh("echo absent")
    };
    let mut action = local(vec![absent.clone(), given]);
    action.values.insert("given".to_owned(), Value::Integer(1));
    let (exit, log) = bench.run(action).await;
    assert_eq!((exit.outcome, exit.step), (Outcome::Succeeded(0), 1));
    assert_eq!(text(&log), "given\n");
    let (exit, _) = bench.run(local(vec![absent])).await;
    assert_eq!(exit.outcome, Outcome::Succeeded(0));
    assert!(!exit.message.is_empty());
}

#[tokio::test]
async fn output_is_kept_byte_for_byte_with_its_streams_and_steps() {
    let bench = Bench::new();
    let binary = "printf 'a\\0b\\377\\r\\n'; head -c 1048576 /dev/zero | tr '\\0' x";
    let steps = vec![
        sh(binary),
        sh("echo out; sleep 0.1; echo err >&2; sleep 0.1; echo out"),
    ];
    let (exit, log) = bench.run(local(steps)).await;
    assert_eq!(exit.outcome, Outcome::Succeeded(0));
    let mut first = b"a\0b\xff\r\n".to_vec();
    first.extend_from_slice(&[b'x'; 1 << 20]);
    let of_step = |step| log.iter().filter(move |record| record.0 == step);
    let bytes: Vec<u8> = of_step(0).flat_map(|record| record.2.clone()).collect();
    assert_eq!(Digest::of(&bytes), Digest::of(&first));
    let second: Vec<_> = of_step(1)
        .map(|record| (record.1, text_of(&record.2)))
        .collect();
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    assert_eq!(
        second,
        [
            (out, "out\n".to_owned()),
            (err, "err\n".to_owned()),
            (out, "out\n".to_owned())
        ]
    );
    first.extend_from_slice(b"out\nout\n");
    assert_eq!(
        (exit.stdout.bytes, exit.stdout.sha256),
        (first.len() as u64, Some(Digest::of(&first)))
    );
    assert_eq!(
        (exit.stderr.bytes, exit.stderr.sha256),
        (4, Some(Digest::of(b"err\n")))
    );
}

#[tokio::test]
async fn cancelled_attempt_ends_politely_or_by_force_with_all_it_started() {
    let bench = Bench::new();
    let polite = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let (exit, log) = bench.stop(sh(polite), StopReason::Cancelled).await;
    assert_eq!(exit.outcome, Outcome::Cancelled);
    assert!(text(&log).contains("bye\n"), "{log:?}");
    let stubborn = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' &)
        echo ready; while :; do sleep 1000; done";
    let (exit, _) = bench.stop(sh(stubborn), StopReason::Cancelled).await;
    assert_eq!(exit.outcome, Outcome::Cancelled);
    assert!(exit.all_dead && exit.runtime_ms >= 5_000, "{exit:?}");
    let (exit, _) = bench
        .stop(sh("echo ready; sleep 1000"), StopReason::Shutdown)
        .await;
    assert_eq!(exit.outcome, Outcome::Interrupted);
    assert!(exit.all_dead && exit.message.contains("shut down"));
}

#[tokio::test]
async fn deadline_and_step_timeout_end_the_attempt() {
    let bench = Bench::new();
    let mut whole = bench.job(local(vec![sh("sleep 1000")]));
    whole.runtime_ms = 200;
    let (exit, _) = bench.finish(&whole).await;
    assert_eq!(
        (exit.outcome, exit.step, exit.all_dead),
        (Outcome::TimedOut, 0, true)
    );
    let slow = Step {
        timeout_ms: 200,
        ..sh("sleep 1000")
    };
    let (exit, _) = bench.run(local(vec![sh("true"), slow, sh("true")])).await;
    assert_eq!(
        (exit.outcome, exit.step, exit.all_dead),
        (Outcome::TimedOut, 1, true)
    );
}

#[tokio::test]
async fn output_limit_stops_an_endless_writer_at_exactly_that_byte() {
    let bench = Bench::new();
    let mut endless = bench.job(local(vec![run(&["yes"])]));
    endless.limits.output_bytes = 1_000_001;
    let (exit, _) = bench.finish(&endless).await;
    assert_eq!(exit.outcome, Outcome::LimitExceeded("output".to_owned()));
    assert_eq!((exit.stdout.bytes, exit.all_dead), (1_000_001, true));
    // Output that was cut is never a success, even when the command made it to its end.
    let mut brief = bench.job(local(vec![sh("printf 12345")]));
    brief.limits.output_bytes = 4;
    let (exit, log) = bench.finish(&brief).await;
    assert_eq!(exit.outcome, Outcome::LimitExceeded("output".to_owned()));
    assert_eq!(text(&log), "1234");
    brief.limits.output_bytes = 5;
    brief.attempt = AttemptId::random();
    assert_eq!(bench.finish(&brief).await.0.outcome, Outcome::Succeeded(0));
}

#[tokio::test]
async fn background_child_does_not_outlive_the_attempt() {
    let bench = Bench::new();
    for script in [
        "sleep 1000 & echo $!",
        "sleep 1000 >/dev/null 2>&1 & echo $!",
    ] {
        let (exit, log) = bench.run(local(vec![sh(script)])).await;
        assert_eq!(exit.outcome, Outcome::Succeeded(0));
        assert!(exit.all_dead);
        let stat = fs::read_to_string(format!("/proc/{}/stat", text(&log).trim()));
        assert!(stat.is_err() || stat.unwrap().contains(") Z "));
    }
}

#[tokio::test]
async fn environment_is_the_allow_list_and_nothing_else() {
    let bench = Bench::new();
    let mut action = local(vec![run(&["env"])]);
    action
        .environment
        .insert("COLOUR".to_owned(), "red=blue".to_owned());
    action.values.insert(
        "name".to_owned(),
        Value::Text("not for commands".to_owned()),
    );
    let job = bench.job(action);
    let (_, log) = bench.finish(&job).await;
    let text = text(&log);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let user = me();
    assert_eq!(
        lines,
        [
            "COLOUR=red=blue",
            &format!("HOME={}", Account::current().unwrap().home.display()),
            "LANG=C.UTF-8",
            &format!("LOGNAME={user}"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            &format!("STEWARD_ATTEMPT={}", job.attempt),
            &format!("STEWARD_RUN={}", job.run),
            "STEWARD_TARGET=nas-1",
            &format!("USER={user}"),
        ]
    );
}

#[tokio::test]
async fn hostile_values_stay_data() {
    let bench = Bench::new();
    let hostile = "$(touch /tmp/pwned); `id` '\"\\ \n {{ other }} %s -e";
    let script = Step {
        kind: StepKind::Script {
            interpreter: vec!["/bin/sh".to_owned(), "-s".to_owned()],
            text: "printf '%s|' \"$value\"; pwd".to_owned(),
        },
        ..sh("")
    };
    let name = |name: &str| Piece::Name(name.to_owned());
    let words = vec![
        Word {
            pieces: vec![Piece::Text("printf".to_owned())],
        },
        Word {
            pieces: vec![Piece::Text("%s|".to_owned())],
        },
        Word {
            pieces: vec![Piece::Text("v=".to_owned()), name("value")],
        },
        Word {
            pieces: vec![name("target.address")],
        },
    ];
    let printf = Step {
        kind: StepKind::Run { words, stdin: None },
        ..sh("")
    };
    let stdin = Some(Word {
        pieces: vec![name("value")],
    });
    let cat = run(&["cat"]);
    let StepKind::Run { words, .. } = cat.kind.clone() else {
        unreachable!()
    };
    let cat = Step {
        kind: StepKind::Run { words, stdin },
        ..cat
    };
    let mut action = local(vec![script, printf, cat]);
    action
        .values
        .insert("value".to_owned(), Value::Text(hostile.to_owned()));
    let job = bench.job(action);
    let (exit, log) = bench.finish(&job).await;
    assert_eq!(exit.outcome, Outcome::Succeeded(0));
    let own = bench.work().join(job.attempt.to_string());
    let expected = format!(
        "{hostile}|{}\nv={hostile}|10.20.0.11|{hostile}",
        own.display()
    );
    assert_eq!(text(&log), expected);
    assert!(!own.exists(), "the attempt's own directory is removed");
}

#[tokio::test]
async fn command_runs_as_another_user_without_rights() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can become another user"
    );
    let bench = Bench::new();
    let keys = bench.folder.path().join("keys");
    fs::write(&keys, "secret").unwrap();
    fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
    let script = format!(
        "id -un; id -G; umask; echo x > file && stat -c '%U %a' file . && cat {} ; kill -0 {}; true",
        keys.display(),
        std::process::id()
    );
    let mut action = local(vec![sh(&script)]);
    action.run_as = Some("nobody".to_owned());
    let (exit, log) = bench.run(action).await;
    assert_eq!(exit.outcome, Outcome::Succeeded(0));
    let text = text(&log);
    // What stands on the two streams was read in either order.
    for line in ["nobody", "65534", "0077", "nobody 600", "nobody 700"] {
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }
    assert!(
        text.contains("Permission denied") && text.contains("not permitted"),
        "{text}"
    );
    assert!(!text.contains("secret"));
}

#[tokio::test]
async fn attempt_that_cannot_start_says_so_and_leaves_nothing() {
    let bench = Bench::new();
    let missing = Word {
        pieces: vec![Piece::Name("missing".to_owned())],
    };
    let mut words = vec![Word {
        pieces: vec![Piece::Text("echo".to_owned())],
    }];
    words.push(missing);
    let unnamed = Step {
        kind: StepKind::Run { words, stdin: None },
        ..sh("")
    };
    let mut lost = local(vec![sh("true")]);
    lost.directory = Some("/no/such/directory".to_owned());
    let mut relative = local(vec![sh("true")]);
    relative.directory = Some("tmp".to_owned());
    for action in [local(vec![sh("true"), unnamed]), lost, relative] {
        let job = bench.job(action);
        let admission = bench.admit(&job);
        let (_stop, stopped) = watch::channel(None);
        let work = Work {
            job: &job,
            admission: &admission,
            body: Digest([0; 32]),
            released: &[],
            connection: None,
        };
        let error = bench
            .attempts
            .run(work, stopped, oneshot::channel().0)
            .await
            .unwrap_err();
        assert!(
            matches!(error, AttemptError::NotStarted { .. }),
            "{error:?}"
        );
        assert!(bench.spool.synced(job.attempt).is_none());
        assert_eq!(fs::read_dir(bench.work()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn full_spool_blocks_the_command_or_kills_it_as_the_job_says() {
    let limits = SpoolLimits {
        attempt_bytes: 300_000,
        bridge_bytes: 1 << 30,
        ..SpoolLimits::default()
    };
    let bench = Bench::with(limits);
    let writer = || local(vec![sh("head -c 5000000 /dev/zero; echo done >&2")]);
    let mut kill = bench.job(writer());
    kill.on_full = OnFull::Kill;
    let (exit, _) = bench.finish(&kill).await;
    assert_eq!(exit.outcome, Outcome::LimitExceeded("spool".to_owned()));
    assert!(exit.all_dead);

    let block = bench.job(writer());
    let admission = bench.admit(&block);
    let (_stop, stopped) = watch::channel(None);
    let running = bench.attempts.run(
        Work {
            job: &block,
            admission: &admission,
            body: Digest([0; 32]),
            released: &[],
            connection: None,
        },
        stopped,
        oneshot::channel().0,
    );
    let mut running = std::pin::pin!(running);
    let early = timeout(Duration::from_millis(500), &mut running).await;
    assert!(early.is_err(), "it waits for the hub");
    assert!(*bench.spool.synced(block.attempt).unwrap().borrow() <= 300_000);
    let hub = async {
        let mut synced = bench.spool.synced(block.attempt).unwrap();
        loop {
            let through = *synced.borrow_and_update();
            bench.spool.acked(block.attempt, through).await.unwrap();
            synced.changed().await.unwrap();
        }
    };
    let exit = tokio::select! {
        exit = timeout(SOON, running) => exit.unwrap().unwrap(),
        () = hub => unreachable!(),
    };
    assert_eq!(exit.outcome, Outcome::Succeeded(0));
    assert_eq!((exit.stdout.bytes, exit.stderr.bytes), (5_000_000, 5));
}

#[tokio::test]
async fn many_attempts_at_once_all_end_with_their_own_output() {
    let bench = Bench::new();
    let jobs: Vec<Job> = (0..64)
        .map(|n| bench.job(local(vec![sh(&format!("echo {n}; exit {n}"))])))
        .collect();
    let stop = Stop::default();
    let mut running = Vec::new();
    for job in jobs {
        let (attempts, admission) = (bench.attempts.clone(), bench.admit(&job));
        running.push(stop.spawn(async move {
            let (_stop, stopped) = watch::channel(None);
            attempts
                .run(
                    Work {
                        job: &job,
                        admission: &admission,
                        body: Digest([0; 32]),
                        released: &[],
                        connection: None,
                    },
                    stopped,
                    oneshot::channel().0,
                )
                .await
                .unwrap()
        }));
    }
    for (n, exit) in running.into_iter().enumerate() {
        let exit = timeout(SOON, exit).await.unwrap().unwrap();
        let code = i32::try_from(n).unwrap();
        let outcome = if n == 0 {
            Outcome::Succeeded(0)
        } else {
            Outcome::Exited(code)
        };
        assert_eq!(exit.outcome, outcome);
        assert_eq!(
            exit.stdout.sha256,
            Some(Digest::of(format!("{n}\n").as_bytes()))
        );
    }
}
