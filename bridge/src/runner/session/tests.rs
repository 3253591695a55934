//! Each rule of the session by example, then no start without its right under random histories.

use std::collections::BTreeSet;

use proptest::bool::weighted;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use steward_shared::id::{ApprovalId, BridgeId, ClusterId};
use steward_shared::job::{Extent, Outcome};
use steward_shared::time::Timestamp;

use super::*;

const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);
const BRIDGE: BridgeId = BridgeId::from_bytes([2; 16]);
const VALID: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(60 * 60);

#[test]
fn accepted_offer_is_recorded_before_it_is_answered_and_asks_for_its_permit() {
    let mut bench = Bench::default();
    let offered = offered(1, 1, 1);
    let commands = bench.offer(offered);
    let request = ReceiptEvent::StartRequest {
        nonce: [1; 16],
        keys: None,
    };
    let wanted = [
        Command::Record(offered.attempt, Entry::Accepted(offered)),
        Command::Send(offered.attempt, 1, ReceiptEvent::Accepted),
        Command::Send(offered.attempt, 1, request),
    ];
    assert_eq!(commands, wanted);
    assert_eq!((bench.session.active(), bench.session.seq()), (1, 1));
}

#[test]
fn refused_offer_is_recorded_and_never_starts() {
    let mut bench = Bench::default();
    let offered = offered(1, 1, 1);
    let refusal = Refusal {
        clause: "locked".to_owned(),
        message: "no".to_owned(),
    };
    let commands = bench.take(Event::Offer(offered, Err(refusal.clone())));
    let wanted = [
        Command::Record(offered.attempt, Entry::Refused(offered, refusal.clone())),
        Command::Send(offered.attempt, 1, ReceiptEvent::Refused(refusal.clone())),
    ];
    assert_eq!(commands, wanted);
    assert_eq!(
        bench.take(Event::Permit(permit(&offered, [0; 16]), None)),
        []
    );
    // The same offer is answered from what was recorded, whatever the gate says of it now.
    let again = bench.offer(offered);
    assert_eq!(
        again,
        [Command::Send(
            offered.attempt,
            1,
            ReceiptEvent::Refused(refusal)
        )]
    );
}

#[test]
fn permit_for_the_live_nonce_starts_once_and_after_its_record() {
    let mut bench = Bench::default();
    let offered = offered(1, 1, 1);
    bench.offer(offered);
    let nonce = bench.nonce(offered.attempt);
    let wanted = [
        Command::Record(offered.attempt, Entry::Started(None)),
        Command::Send(offered.attempt, 1, ReceiptEvent::Started),
        Command::Start(offered.attempt),
    ];
    assert_eq!(
        bench.take(Event::Permit(permit(&offered, nonce), None)),
        wanted
    );
    assert_eq!(bench.take(Event::Permit(permit(&offered, nonce), None)), []);
    assert_eq!(bench.session.starts_last_minute(bench.now), 1);
}

#[test]
fn permit_for_another_nonce_fence_or_attempt_does_nothing() {
    let mut bench = Bench::default();
    let (one, other) = (offered(1, 1, 1), offered(2, 2, 2));
    bench.offer(one);
    let nonce = bench.nonce(one.attempt);
    for wrong in [
        permit(&one, [0xff; 16]),
        Permit {
            fence: 2,
            ..permit(&one, nonce)
        },
        permit(&other, nonce),
    ] {
        assert_eq!(bench.take(Event::Permit(wrong, None)), []);
    }
    assert_eq!(bench.nonce(one.attempt), nonce);
}

#[test]
fn stale_permit_ends_the_attempt_not_started() {
    let mut bench = Bench::default();
    let offered = offered(1, 1, 1);
    bench.offer(offered);
    let nonce = bench.nonce(offered.attempt);
    bench.pass(VALID);
    let commands = bench.take(Event::Permit(permit(&offered, nonce), None));
    assert_not_started(&commands, offered.attempt);
    assert_eq!(bench.take(Event::Permit(permit(&offered, nonce), None)), []);
}

#[test]
fn permit_of_an_attempt_that_a_newer_one_replaced_does_not_start_it() {
    let mut bench = Bench::default();
    let (old, new) = (
        offered(1, 1, 1),
        Offered {
            job: job(1),
            ..offered(2, 2, 2)
        },
    );
    bench.offer(old);
    bench.offer(new);
    let nonce = bench.nonce(old.attempt);
    assert_not_started(
        &bench.take(Event::Permit(permit(&old, nonce), None)),
        old.attempt,
    );
    let nonce = bench.nonce(new.attempt);
    let commands = bench.take(Event::Permit(permit(&new, nonce), None));
    assert!(commands.contains(&Command::Start(new.attempt)));
}

#[test]
fn closed_window_ends_what_waits_and_takes_no_permit() {
    let mut bench = Bench::default();
    let (one, other) = (offered(1, 1, 1), offered(2, 2, 2));
    bench.offer(one);
    bench.offer(other);
    bench.now.wall = bench.now.wall.after(WINDOW);
    assert_eq!(bench.take(Event::Tick), []);
    bench.now.wall = bench.now.wall.after(Duration::from_millis(1));
    let nonce = bench.nonce(one.attempt);
    assert_not_started(
        &bench.take(Event::Permit(permit(&one, nonce), None)),
        one.attempt,
    );
    assert_not_started(&bench.take(Event::Tick), other.attempt);
    assert_eq!(bench.take(Event::Tick), []);
}

#[test]
fn refused_permit_ends_only_the_request_that_it_answers() {
    let mut bench = Bench::default();
    let offered = offered(1, 1, 1);
    bench.offer(offered);
    let nonce = bench.nonce(offered.attempt);
    let refused = |nonce| {
        let (attempt, fence, reason) = (offered.attempt, offered.fence, String::new());
        let refused = PermitRefused {
            cluster: CLUSTER,
            bridge: BRIDGE,
            attempt,
            fence,
            nonce,
            reason,
        };
        Event::PermitRefused(refused)
    };
    assert_eq!(bench.take(refused([0xff; 16])), []);
    assert_not_started(&bench.take(refused(nonce)), offered.attempt);
}

#[test]
fn repeated_offer_is_answered_from_the_journal() {
    let mut bench = Bench::default();
    let offered = offered(1, 1, 1);
    let receipt = |receipt| vec![Command::Send(offered.attempt, 1, receipt)];
    bench.offer(offered);
    assert_eq!(bench.offer(offered), receipt(ReceiptEvent::Accepted));
    bench.start(&offered);
    assert_eq!(bench.offer(offered), receipt(ReceiptEvent::Started));
    bench.take(Event::Ended(offered.attempt, exit()));
    assert_eq!(bench.offer(offered), receipt(ReceiptEvent::Exited(exit())));
    bench.take(Event::Ack(ack(&offered, 0, true)));
    assert_eq!(bench.offer(offered), []);
}

#[test]
fn replayed_offer_is_refused_unrecorded_and_moves_no_mark() {
    let mut bench = Bench::default();
    bench.offer(offered(1, 5, 5));
    for old in [
        Offered {
            job: job(1),
            ..offered(2, 4, 9)
        },
        Offered {
            job: job(1),
            ..offered(3, 5, 9)
        },
        offered(4, 9, 4),
        offered(5, 9, 5),
    ] {
        let commands = bench.offer(old);
        let [Command::Send(attempt, _, ReceiptEvent::Refused(refusal))] = &commands[..] else {
            panic!("{commands:?}");
        };
        assert_eq!((*attempt, refusal.clause.as_str()), (old.attempt, "replay"));
        assert_eq!((bench.session.seq(), bench.session.active()), (5, 1));
    }
    assert_eq!(
        bench.session.is_replay(&Offered {
            job: job(1),
            ..offered(6, 6, 6)
        }),
        None
    );
}

#[test]
fn cancel_before_the_start_is_certain_and_after_it_is_a_wish() {
    let mut bench = Bench::default();
    let (early, late) = (offered(1, 1, 1), offered(2, 2, 2));
    bench.offer(early);
    bench.offer(late);
    bench.start(&late);
    let nonce = bench.nonce(early.attempt);
    assert_eq!(
        bench.take(Event::Cancel(Cancel {
            fence: 9,
            ..cancel(&early)
        })),
        []
    );
    assert_not_started(&bench.take(Event::Cancel(cancel(&early))), early.attempt);
    assert_eq!(bench.take(Event::Permit(permit(&early, nonce), None)), []);
    let stop = Command::Stop(late.attempt, StopWhy::Cancelled);
    assert_eq!(bench.take(Event::Cancel(cancel(&late))), [stop]);
    assert_eq!(bench.take(Event::Cancel(cancel(&late))), []);
    bench.take(Event::Ended(late.attempt, exit()));
    let receipt = Command::Send(late.attempt, 2, ReceiptEvent::Exited(exit()));
    assert_eq!(bench.take(Event::Cancel(cancel(&late))), [receipt]);
}

#[test]
fn attempt_is_settled_only_after_its_end() {
    let mut bench = Bench::default();
    let offered = offered(1, 1, 1);
    bench.offer(offered);
    assert_eq!(bench.take(Event::Ack(ack(&offered, 0, true))), []);
    bench.start(&offered);
    let release = Command::Release(offered.attempt, 7);
    let commands = bench.take(Event::Ack(ack(&offered, 7, true)));
    assert_eq!(commands, std::slice::from_ref(&release));
    assert!(bench.session.held(offered.attempt).unwrap().is_active());
    bench.take(Event::Ended(offered.attempt, exit()));
    assert_eq!(bench.take(Event::Ack(ack(&offered, 7, false))), [release]);
    assert_eq!(
        bench.take(Event::Ack(Ack {
            fence: 2,
            ..ack(&offered, 7, true)
        })),
        []
    );
    let settled = [
        Command::Record(offered.attempt, Entry::Settled),
        Command::Forget(offered.attempt),
    ];
    assert_eq!(bench.take(Event::Ack(ack(&offered, 7, true))), settled);
    assert_eq!(bench.take(Event::Ack(ack(&offered, 7, true))), []);
    assert_eq!(bench.session.open().count(), 0);
}

#[test]
fn reconnect_says_again_how_far_each_attempt_is() {
    let mut bench = Bench::default();
    let all = [1, 2, 3, 4].map(|number| offered(number, u64::from(number), u64::from(number)));
    let [waits, runs, ended, settled] = all;
    for offered in all {
        bench.offer(offered);
    }
    for offered in [runs, ended, settled] {
        bench.start(&offered);
    }
    for offered in [ended, settled] {
        bench.take(Event::Ended(offered.attempt, exit()));
    }
    bench.take(Event::Ack(ack(&settled, 0, true)));
    bench.take(Event::Down);
    let nonce = bench.nonce(waits.attempt);
    let say = |offered: &Offered, receipt| Command::Send(offered.attempt, offered.fence, receipt);
    let wanted = |nonce| {
        [
            say(&waits, ReceiptEvent::Accepted),
            say(&waits, ReceiptEvent::StartRequest { nonce, keys: None }),
            say(&runs, ReceiptEvent::Started),
            say(&ended, ReceiptEvent::Exited(exit())),
        ]
    };
    assert_eq!(bench.take(Event::Connected), wanted(nonce));
    bench.pass(REQUEST_AGE_MAX + Duration::from_millis(1));
    let commands = bench.take(Event::Connected);
    let fresh = bench.nonce(waits.attempt);
    assert_ne!(fresh, nonce);
    assert_eq!(commands, wanted(fresh));
    assert_eq!(bench.take(Event::Permit(permit(&waits, nonce), None)), []);
}

#[test]
fn attempt_that_must_not_outlive_the_connection_is_stopped_when_its_time_is_up() {
    let mut bench = Bench::default();
    let after = OnDisconnect::StopAfter(5000);
    let (stops, goes_on) = (
        Offered {
            on_disconnect: after,
            ..offered(1, 1, 1)
        },
        offered(2, 2, 2),
    );
    for offered in [stops, goes_on] {
        bench.offer(offered);
        bench.start(&offered);
    }
    bench.take(Event::Down);
    bench.pass(Duration::from_millis(4999));
    // A second loss without a connection between is the same absence.
    bench.take(Event::Down);
    assert_eq!(bench.take(Event::Tick), []);
    bench.take(Event::Connected);
    bench.take(Event::Down);
    bench.pass(Duration::from_millis(4999));
    assert_eq!(bench.take(Event::Tick), []);
    bench.pass(Duration::from_millis(1));
    let stop = Command::Stop(stops.attempt, StopWhy::Disconnected);
    assert_eq!(bench.take(Event::Tick), [stop]);
    assert_eq!(bench.take(Event::Tick), []);
}

#[test]
fn only_the_first_end_counts() {
    let mut bench = Bench::default();
    let offered = offered(1, 1, 1);
    bench.offer(offered);
    assert_eq!(bench.take(Event::Ended(offered.attempt, exit())), []);
    bench.start(&offered);
    let commands = bench.take(Event::NotStarted(
        offered.attempt,
        "no such program".to_owned(),
    ));
    assert_not_started(&commands, offered.attempt);
    assert_eq!(bench.take(Event::Ended(offered.attempt, exit())), []);
    assert_eq!(
        bench.take(Event::NotStarted(offered.attempt, String::new())),
        []
    );
}

#[test]
fn no_history_starts_an_attempt_twice_or_without_its_right() {
    let steps = proptest::collection::vec(step(), 1..80);
    let mut runner = TestRunner::new(Config {
        cases: 1000,
        failure_persistence: None,
        ..Config::default()
    });
    let ran = runner.run(&steps, |steps| {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn random_histories_reach_starts_ends_and_crashes_in_between() {
    let steps = proptest::collection::vec(step(), 200);
    let mut runner = TestRunner::deterministic();
    let (mut started, mut exited, mut resumed) = (0, 0, 0);
    for _ in 0..200 {
        let mut world = World::default();
        for step in steps.new_tree(&mut runner).unwrap().current() {
            world.step(step);
        }
        started += world.started.len();
        exited += world.exited.len();
        resumed += world.resumed_active;
    }
    assert!(
        started > 100 && exited > 50 && resumed > 100,
        "{started} {exited} {resumed}"
    );
}

/// What may happen next; the numbers choose among a few attempts, jobs and moments.
#[derive(Debug, Clone, Copy)]
enum Step {
    Offer {
        attempt: u8,
        job: u8,
        fence: u64,
        seq: u64,
        refused: bool,
        stops: bool,
    },
    /// A permit for one of the nonces that were ever asked with, the newest first.
    Permit {
        attempt: u8,
        back: usize,
    },
    Refuse {
        attempt: u8,
        back: usize,
    },
    Cancel {
        attempt: u8,
    },
    Ack {
        attempt: u8,
        settled: bool,
    },
    Ended {
        attempt: u8,
    },
    NotStarted {
        attempt: u8,
    },
    Prepared {
        attempt: u8,
    },
    Unfit {
        attempt: u8,
    },
    Connected,
    Down,
    Pass {
        millis: u64,
    },
    /// What comes next is carried out up to here only, and then the runner dies.
    Crash {
        carried_out: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let attempt = || 0..8_u8;
    prop_oneof![
        4 => (attempt(), 0..4_u8, 0..6_u64, 0..6_u64, weighted(0.2), any::<bool>()).prop_map(
            |(attempt, job, fence, seq, refused, stops)| {
                Step::Offer { attempt, job, fence, seq, refused, stops }
            }
        ),
        8 => (attempt(), 0..2_usize).prop_map(|(attempt, back)| Step::Permit { attempt, back }),
        1 => (attempt(), 0..3_usize).prop_map(|(attempt, back)| Step::Refuse { attempt, back }),
        1 => attempt().prop_map(|attempt| Step::Cancel { attempt }),
        2 => (attempt(), any::<bool>()).prop_map(|(attempt, settled)| Step::Ack { attempt, settled }),
        2 => attempt().prop_map(|attempt| Step::Ended { attempt }),
        1 => attempt().prop_map(|attempt| Step::NotStarted { attempt }),
        1 => attempt().prop_map(|attempt| Step::Prepared { attempt }),
        1 => attempt().prop_map(|attempt| Step::Unfit { attempt }),
        2 => Just(Step::Connected),
        1 => Just(Step::Down),
        2 => (0..12_000_u64).prop_map(|millis| Step::Pass { millis }),
        1 => (0..4_usize).prop_map(|carried_out| Step::Crash { carried_out }),
    ]
}

/// The approved job that an attempt is of: some are of none, and some of the same one.
fn approved(attempt: u8) -> Option<ApprovedJob> {
    (attempt > 3).then(|| ApprovedJob {
        approval: ApprovalId::from_bytes([1; 16]),
        index: u32::from(attempt % 2),
        not_after: Timestamp::from_millis(u64::MAX),
    })
}

#[test]
fn approved_job_is_started_once_whatever_its_ids_and_again_only_where_nothing_was() {
    let mut bench = Bench::default();
    let all = [1, 2, 3].map(|number| offered(number, 1, number.into()));
    let [one, other, third] = all.map(|offered| Offered {
        job: JobId::from_bytes([offered.attempt.as_bytes()[0]; 16]),
        ..offered
    });
    let job = approved(4);
    for offered in [one, other, third] {
        bench.offer(offered);
    }
    let nonce = bench.nonce(one.attempt);
    let commands = bench.take(Event::Permit(permit(&one, nonce), job));
    let started = Command::Record(one.attempt, Entry::Started(job));
    assert!(commands.contains(&started), "{commands:?}");
    let nonce = bench.nonce(other.attempt);
    let commands = bench.take(Event::Permit(permit(&other, nonce), job));
    assert_not_started(&commands, other.attempt);
    // It is proven that the first has started nothing: the job may be started after all.
    let reason = "no such user".to_owned();
    bench.take(Event::NotStarted(one.attempt, reason));
    let nonce = bench.nonce(third.attempt);
    let commands = bench.take(Event::Permit(permit(&third, nonce), job));
    assert!(
        commands.contains(&Command::Start(third.attempt)),
        "{commands:?}"
    );
}

/// A session, a disk that keeps what was recorded, and what must never happen.
#[derive(Default)]
struct World {
    bench: Bench,
    /// What a journal would hold.
    attempts: BTreeMap<AttemptId, Held>,
    fences: BTreeMap<JobId, u64>,
    seq: u64,
    uses: Uses,
    /// Every nonce that an attempt asked with, by when.
    asked: BTreeMap<AttemptId, Vec<([u8; 16], Duration)>>,
    recorded_start: BTreeSet<AttemptId>,
    never: BTreeSet<AttemptId>,
    started: BTreeSet<AttemptId>,
    exited: BTreeSet<AttemptId>,
    /// The commands of the next event are carried out up to here, and then all is lost.
    crash: Option<usize>,
    resumed_active: usize,
}

impl World {
    fn step(&mut self, step: Step) {
        let event = match step {
            Step::Offer {
                attempt,
                job: number,
                fence,
                seq,
                refused,
                stops,
            } => {
                let refusal = Refusal {
                    clause: "policy".to_owned(),
                    message: String::new(),
                };
                let on_disconnect = if stops {
                    OnDisconnect::StopAfter(3000)
                } else {
                    OnDisconnect::Continue
                };
                // Around the marks, mostly above them; but an attempt's fence is its own.
                let mark = self.fences.get(&job(number)).copied().unwrap_or_default();
                let fresh = (mark + fence).saturating_sub(2).max(1);
                let fence = self
                    .attempts
                    .get(&id(attempt))
                    .map_or(fresh, |held| held.fence);
                let seq = (self.seq + seq).saturating_sub(2).max(1);
                let offered = Offered {
                    job: job(number),
                    on_disconnect,
                    ..offered(attempt, fence, seq)
                };
                Event::Offer(offered, if refused { Err(refusal) } else { Ok(()) })
            }
            Step::Permit { attempt, back } => {
                Event::Permit(self.permit(attempt, back), approved(attempt))
            }
            Step::Refuse { attempt, back } => Event::PermitRefused(self.refusal(attempt, back)),
            Step::Cancel { attempt } => Event::Cancel(cancel(&self.known(attempt))),
            Step::Ack { attempt, settled } => Event::Ack(ack(&self.known(attempt), 1, settled)),
            Step::Ended { attempt } => Event::Ended(id(attempt), exit()),
            Step::NotStarted { attempt } => Event::NotStarted(id(attempt), String::new()),
            Step::Prepared { attempt } => Event::Prepared(id(attempt)),
            Step::Unfit { attempt } => Event::Unfit(
                id(attempt),
                Refusal {
                    clause: "host-key".to_owned(),
                    message: String::new(),
                },
            ),
            Step::Connected => Event::Connected,
            Step::Down => Event::Down,
            Step::Pass { millis } => {
                self.bench.pass(Duration::from_millis(millis));
                Event::Tick
            }
            Step::Crash { carried_out } => {
                self.crash = Some(carried_out);
                return;
            }
        };
        self.take(&event);
    }

    fn refusal(&self, attempt: u8, back: usize) -> PermitRefused {
        let permit = self.permit(attempt, back);
        PermitRefused {
            cluster: permit.cluster,
            bridge: permit.bridge,
            attempt: permit.attempt,
            fence: permit.fence,
            nonce: permit.nonce,
            reason: String::new(),
        }
    }

    fn take(&mut self, event: &Event) {
        let before = (self.bench.session.seq(), self.bench.session.fences.clone());
        let commands = self.bench.take(event.clone());
        self.never_back(&before);
        let carried_out = self.crash.take();
        for command in commands.iter().take(carried_out.unwrap_or(usize::MAX)) {
            self.carry_out(command, event);
        }
        if carried_out.is_some() {
            let (attempts, fences) = (self.attempts.clone(), self.fences.clone());
            self.resumed_active += attempts.values().filter(|held| held.is_active()).count();
            self.bench.session = Session::resume(attempts, fences, self.seq, self.uses.clone());
        } else {
            assert_eq!(
                self.bench.session.seq(),
                self.seq,
                "the journal has another seq"
            );
            assert_eq!(
                self.bench.session.fences, self.fences,
                "the journal has other fences"
            );
            assert_eq!(
                self.bench.session.uses, self.uses,
                "the journal has other approved jobs"
            );
        }
    }

    fn never_back(&self, (seq, fences): &(u64, BTreeMap<JobId, u64>)) {
        assert!(self.bench.session.seq() >= *seq, "the seq went back");
        for (job, fence) in fences {
            assert!(
                self.bench.session.fences.get(job) >= Some(fence),
                "a fence went back"
            );
        }
    }

    fn carry_out(&mut self, command: &Command, event: &Event) {
        match command {
            Command::Record(attempt, entry) => self.record(*attempt, entry),
            Command::Send(attempt, _, ReceiptEvent::StartRequest { nonce, .. }) => {
                let asked = self.asked.entry(*attempt).or_default();
                if asked.iter().all(|(known, _)| known != nonce) {
                    asked.push((*nonce, self.bench.now.boot));
                }
            }
            Command::Start(attempt) => {
                assert!(
                    self.recorded_start.contains(attempt),
                    "started before its record"
                );
                assert!(!self.never.contains(attempt), "started after its end");
                assert!(self.started.insert(*attempt), "started twice");
                let Event::Permit(permit, _) = event else {
                    panic!("started by {event:?}")
                };
                let held = &self.attempts[attempt];
                assert_eq!((permit.attempt, permit.fence), (*attempt, held.fence));
                assert_eq!(
                    self.fences[&held.job], held.fence,
                    "started with an old fence"
                );
                let (newest, at) = *self.asked[attempt].last().expect("it has asked");
                assert_eq!(
                    permit.nonce, newest,
                    "started by a permit for an old request"
                );
                assert!(
                    self.bench.now.boot - at < VALID,
                    "started by a stale permit"
                );
                assert!(
                    self.bench.now.wall <= held.not_after,
                    "started after its window"
                );
            }
            Command::Stop(attempt, _) => {
                assert!(self.started.contains(attempt) || self.recorded_start.contains(attempt));
            }
            Command::Send(..) | Command::Release(..) | Command::Forget(_) => {}
        }
    }

    fn record(&mut self, attempt: AttemptId, entry: &Entry) {
        let mut add = |offered: &Offered, phase: Phase| {
            let held = Held {
                job: offered.job,
                fence: offered.fence,
                seq: offered.seq,
                not_after: offered.not_after,
                on_disconnect: offered.on_disconnect,
                phase,
            };
            assert!(self.attempts.insert(attempt, held).is_none(), "added twice");
            let fence = self.fences.entry(offered.job).or_default();
            assert!(
                offered.fence > *fence && offered.seq > self.seq,
                "a replay was recorded"
            );
            (*fence, self.seq) = (offered.fence, offered.seq);
        };
        match entry {
            Entry::Accepted(offered) => return add(offered, Phase::Accepted { request: None }),
            Entry::Refused(offered, refusal) => {
                self.never.insert(attempt);
                return add(
                    offered,
                    Phase::Ended(ReceiptEvent::Refused(refusal.clone())),
                );
            }
            Entry::Started(approved) => {
                assert!(self.recorded_start.insert(attempt), "recorded twice");
                if let Some(job) = approved {
                    assert!(
                        !self.uses.taken(job, attempt),
                        "approved once, started twice"
                    );
                    self.uses.take(job, attempt);
                }
            }
            Entry::NotStarted(_) | Entry::Unfit(_) => {
                self.uses.release(attempt);
                assert!(self.never.insert(attempt), "ended twice");
            }
            Entry::Exited(_) => {
                assert!(
                    self.recorded_start.contains(&attempt),
                    "exited without a start"
                );
                assert!(
                    self.never.insert(attempt) && self.exited.insert(attempt),
                    "ended twice"
                );
            }
            Entry::Settled => assert!(self.never.contains(&attempt), "settled before its end"),
        }
        let held = self.attempts.get_mut(&attempt).expect("it was added");
        held.phase = match entry {
            Entry::Started(_) => Phase::Running { cancelled: false },
            Entry::NotStarted(reason) => Phase::Ended(ReceiptEvent::NotStarted {
                reason: reason.clone(),
            }),
            Entry::Unfit(refusal) => Phase::Ended(ReceiptEvent::Refused(refusal.clone())),
            Entry::Exited(exit) => Phase::Ended(ReceiptEvent::Exited(exit.clone())),
            Entry::Settled => Phase::Settled,
            Entry::Accepted(_) | Entry::Refused(..) => unreachable!("returned above"),
        };
    }

    fn known(&self, attempt: u8) -> Offered {
        let fence = self.attempts.get(&id(attempt)).map_or(1, |held| held.fence);
        offered(attempt, fence, 1)
    }

    fn permit(&self, attempt: u8, back: usize) -> Permit {
        let asked = self.asked.get(&id(attempt));
        let nonce = asked
            .and_then(|asked| asked.iter().rev().nth(back))
            .map_or([0; 16], |(n, _)| *n);
        permit(&self.known(attempt), nonce)
    }
}

/// A session with its clock and its source of nonces, which counts.
struct Bench {
    session: Session,
    now: Now,
    nonces: u8,
}

impl Default for Bench {
    fn default() -> Self {
        let now = Now {
            wall: Timestamp::from_millis(1_000_000),
            boot: Duration::from_secs(1000),
        };
        Self {
            session: Session::default(),
            now,
            nonces: 0,
        }
    }
}

impl Bench {
    fn take(&mut self, event: Event) -> Vec<Command> {
        let nonces = &mut self.nonces;
        self.session.handle(self.now, event, &mut || {
            *nonces = nonces.checked_add(1).expect("a test has few requests");
            [*nonces; 16]
        })
    }

    fn offer(&mut self, offered: Offered) -> Vec<Command> {
        self.take(Event::Offer(offered, Ok(())))
    }

    fn start(&mut self, offered: &Offered) {
        let nonce = self.nonce(offered.attempt);
        let commands = self.take(Event::Permit(permit(offered, nonce), None));
        assert!(
            commands.contains(&Command::Start(offered.attempt)),
            "{commands:?}"
        );
    }

    fn nonce(&self, attempt: AttemptId) -> [u8; 16] {
        let held = self.session.held(attempt).expect("it was offered");
        let Phase::Accepted {
            request: Some((nonce, _)),
        } = held.phase
        else {
            panic!("{held:?}")
        };
        nonce
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now {
            wall: self.now.wall.after(time),
            boot: self.now.boot + time,
        };
    }
}

fn assert_not_started(commands: &[Command], attempt: AttemptId) {
    let [
        Command::Record(recorded, Entry::NotStarted(_)),
        Command::Send(sent, _, ReceiptEvent::NotStarted { .. }),
    ] = commands
    else {
        panic!("{commands:?}");
    };
    assert_eq!((*recorded, *sent), (attempt, attempt));
}

fn id(number: u8) -> AttemptId {
    AttemptId::from_bytes([number; 16])
}

fn job(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

fn offered(number: u8, fence: u64, seq: u64) -> Offered {
    Offered {
        attempt: id(number),
        job: job(number),
        fence,
        seq,
        not_after: Timestamp::from_millis(1_000_000).after(WINDOW),
        on_disconnect: OnDisconnect::Continue,
    }
}

fn permit(offered: &Offered, nonce: [u8; 16]) -> Permit {
    Permit {
        cluster: CLUSTER,
        bridge: BRIDGE,
        attempt: offered.attempt,
        fence: offered.fence,
        nonce,
        valid_for_ms: 10_000,
        released: Vec::new(),
        connection: None,
    }
}

fn cancel(offered: &Offered) -> Cancel {
    let (attempt, fence) = (offered.attempt, offered.fence);
    Cancel {
        cluster: CLUSTER,
        bridge: BRIDGE,
        attempt,
        fence,
    }
}

fn ack(offered: &Offered, through: u64, settled: bool) -> Ack {
    let (attempt, fence) = (offered.attempt, offered.fence);
    Ack {
        cluster: CLUSTER,
        bridge: BRIDGE,
        attempt,
        fence,
        through,
        settled,
    }
}

fn exit() -> Exit {
    let empty = Extent {
        bytes: 0,
        sha256: None,
    };
    Exit {
        outcome: Outcome::Succeeded(0),
        step: 0,
        runtime_ms: 1,
        log: empty,
        stdout: empty,
        stderr: empty,
        all_dead: true,
        masked: Some(0),
        message: String::new(),
        found: None,
    }
}
