//! The fixed contents of the vectors: keys, ids, times, and one message of every kind.
//!
//! Used by the other modules of the vectors. Nothing here may change: a changed byte is another
//! protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use steward_shared::action::{Action, ActionKind, Local, TargetRef};
use steward_shared::approval::{Approval, Approved, SignedApproval};
use steward_shared::frame::{
    Ack, Cancel, Challenge, Hello, OpenAttempt, Permit, PermitRefused, Receipt, ReceiptEvent,
    Start, Status,
};
use steward_shared::id::{
    ApprovalId, AttemptId, BridgeId, ClusterId, CredentialId, JobId, JournalId, RunId, StartId,
    TargetId, TemplateId,
};
use steward_shared::job::{
    Digest, Exit, Extent, Job, JobLimits, OnDisconnect, OnFull, Outcome, TemplateRef,
};
use steward_shared::log::{Header, Stream};
use steward_shared::merkle;
use steward_shared::proof::Proof;
use steward_shared::secret::Secret;
use steward_shared::sign::{SigningKey, pae};
use steward_shared::template::{Piece, Step, StepKind, Value, Values, When, Word};
use steward_shared::time::Timestamp;
use steward_shared::trust::{TrustDocument, TrustMark};
use steward_tests::rendered;

/// 2026-11-22T01:56:17.042Z
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_312_577_042);

pub(super) const CLUSTER: ClusterId = ClusterId::from_bytes(counted(0xc0));
pub(super) const BRIDGE: BridgeId = BridgeId::from_bytes(counted(0xb0));
pub(super) const ATTEMPT: AttemptId = AttemptId::from_bytes(counted(0xa0));
pub(super) const JOB: JobId = JobId::from_bytes(counted(0x40));
pub(super) const JOURNAL: JournalId = JournalId::from_bytes(counted(0x50));
pub(super) const CREDENTIAL: CredentialId = CredentialId::from_bytes(counted(0x90));
pub(super) const NONCE: [u8; 16] = counted(0x70);
pub(super) const FENCE: u64 = 4711;

/// The seeds of the keys: 32 bytes that count up from these.
pub(super) const JOB_KEY: u8 = 0x00;
pub(super) const RECEIPT_KEY: u8 = 0x20;
pub(super) const TLS_KEY: u8 = 0x40;
pub(super) const STRANGER_KEY: u8 = 0x60;
pub(super) const TRUST_KEY: u8 = 0x80;

/// Bytes that count up, so that no order of bytes but the right one fits.
pub(super) const fn counted<const N: usize>(first: u8) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    let mut next = first;
    while at < N {
        bytes[at] = next;
        next = next.wrapping_add(1);
        at += 1;
    }
    bytes
}

pub(super) fn signing_key(first: u8) -> Result<SigningKey> {
    Ok(SigningKey::from_seed(&Secret::new(
        counted::<32>(first).to_vec(),
    ))?)
}

/// A signature over any bytes, for messages that no sender would make.
pub(super) fn raw_signature(first: u8, message: &[u8]) -> Result<Vec<u8>> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&counted::<32>(first))?;
    Ok(pair.sign(message).as_ref().to_vec())
}

/// An envelope over any body and for any purpose, written byte by byte.
pub(super) fn raw_envelope(first: u8, purpose: &str, body: &[u8]) -> Result<Vec<u8>> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&counted::<32>(first))?;
    let mut out = Digest::of(pair.public_key().as_ref()).0.to_vec();
    anyhow::ensure!(body.len() < 251, "the length would need more than one byte");
    out.push(u8::try_from(body.len())?);
    out.extend_from_slice(body);
    out.push(64);
    out.extend(raw_signature(first, &pae(purpose, body))?);
    Ok(out)
}

pub(super) fn text(value: &str) -> String {
    value.to_owned()
}

fn constant(value: &str) -> Word {
    Word {
        pieces: vec![Piece::Text(text(value))],
    }
}

fn placeholder(name: &str) -> Piece {
    Piece::Name(text(name))
}

pub(super) fn steps() -> Vec<Step> {
    let joined = Word {
        pieces: vec![Piece::Text(text("--lines=")), placeholder("lines")],
    };
    vec![
        Step {
            kind: StepKind::Run {
                words: vec![
                    constant("tail"),
                    joined,
                    constant("--"),
                    Word {
                        pieces: vec![placeholder("path")],
                    },
                ],
                stdin: None,
            },
            when: None,
            ok: vec![0],
            timeout_ms: 0,
        },
        Step {
            kind: StepKind::Run {
                words: vec![constant("grep"), constant("")],
                stdin: Some(Word {
                    pieces: vec![
                        Piece::Text(text("one\n")),
                        placeholder("target.address"),
                        Piece::Text(text("\n")),
                    ],
                }),
            },
            when: Some(When {
                input: text("lines"),
                is: Some(Value::Integer(-500)),
            }),
            ok: vec![0, 1, -1],
            timeout_ms: 90_000,
        },
        Step {
            kind: StepKind::Script {
                interpreter: vec![text("sh"), text("-eu")],
                text: text("printf '%s\\n' \"$note\"\n"),
            },
            when: Some(When {
                input: text("verbose"),
                is: None,
            }),
            ok: vec![0],
            timeout_ms: 1000,
        },
    ]
}

pub(super) fn values() -> Values {
    Values::from([
        (text("lines"), Value::Integer(-500)),
        (text("note"), Value::Text(text("Grüße, \"$(id)\"; 世界"))),
        (text("path"), Value::Text(text("/var/log/syslog"))),
        (text("verbose"), Value::Boolean(true)),
    ])
}

/// A job with everything that a job can have.
pub(super) fn job() -> Result<Job> {
    Ok(rendered(Job {
        readings: Vec::new(),
        cluster: CLUSTER,
        run: RunId::from_bytes(counted(0x60)),
        job: JOB,
        attempt: ATTEMPT,
        number: 2,
        fence: FENCE,
        bridge: BRIDGE,
        bridge_key: signing_key(RECEIPT_KEY)?.public().digest(),
        journal: JOURNAL,
        seq: 300,
        issued_at: NOW,
        not_before: Timestamp::from_millis(1_795_308_977_042),
        not_after: Timestamp::from_millis(1_795_398_977_042),
        runtime_ms: 3_600_000,
        project: text("storage"),
        template: TemplateRef {
            id: TemplateId::from_bytes(counted(0x10)),
            name: text("show-log-tail"),
            version: 70_000,
            sha256: Digest(counted(0xe0)),
        },
        target: TargetRef {
            id: TargetId::from_bytes(counted(0x20)),
            name: text("db-1"),
            address: text("db-1.example.org"),
        },
        login: None,
        secrets: Vec::new(),
        action: Action::Local(Local {
            steps: steps(),
            values: values(),
            environment: BTreeMap::from([
                (text("LC_ALL"), text("C.UTF-8")),
                (text("TZ"), String::new()),
            ]),
            directory: Some(text("/srv")),
            run_as: Some(text("steward-jobs")),
        }),
        files: Vec::new(),
        limits: JobLimits {
            output_bytes: 67_108_864,
            memory_bytes: 0,
            processes: 64,
        },
        on_disconnect: OnDisconnect::StopAfter(600_000),
        on_full: OnFull::Kill,
        rendered: Digest([0; 32]),
        requester: text("alice"),
        reason: text("the disk is nearly full"),
        ticket: text("OPS-17"),
    }))
}

/// A job with as little as a job can have.
pub(super) fn plain_job() -> Result<Job> {
    let full = job()?;
    let uptime = Step {
        kind: StepKind::Run {
            words: vec![constant("uptime")],
            stdin: None,
        },
        when: None,
        ok: vec![0],
        timeout_ms: 0,
    };
    Ok(rendered(Job {
        number: 1,
        seq: 1,
        login: None,
        secrets: Vec::new(),
        action: Action::Local(Local {
            steps: vec![uptime],
            values: Values::new(),
            environment: BTreeMap::new(),
            directory: None,
            run_as: None,
        }),
        limits: JobLimits {
            output_bytes: 0,
            memory_bytes: 0,
            processes: 0,
        },
        on_disconnect: OnDisconnect::Continue,
        on_full: OnFull::Block,
        reason: String::new(),
        ticket: String::new(),
        ..full
    }))
}

pub(super) const CHALLENGE: Challenge = Challenge {
    nonce: NONCE,
    hub_time: NOW,
};

pub(super) const PERMIT: Permit = Permit {
    cluster: CLUSTER,
    bridge: BRIDGE,
    attempt: ATTEMPT,
    fence: FENCE,
    nonce: NONCE,
    valid_for_ms: 10_000,
    released: Vec::new(),
    connection: None,
};

pub(super) fn permit_refused(reason: &str) -> PermitRefused {
    PermitRefused {
        cluster: CLUSTER,
        bridge: BRIDGE,
        attempt: ATTEMPT,
        fence: FENCE,
        nonce: NONCE,
        reason: text(reason),
    }
}

pub(super) const CANCEL: Cancel = Cancel {
    cluster: CLUSTER,
    bridge: BRIDGE,
    attempt: ATTEMPT,
    fence: FENCE,
};

pub(super) const fn ack(through: u64, settled: bool) -> Ack {
    Ack {
        cluster: CLUSTER,
        bridge: BRIDGE,
        attempt: ATTEMPT,
        fence: FENCE,
        through,
        settled,
    }
}

pub(super) fn hello(open: Vec<OpenAttempt>, policy: Option<Digest>) -> Hello {
    Hello {
        cluster: CLUSTER,
        bridge: BRIDGE,
        nonce: NONCE,
        journal: JOURNAL,
        seq: 300,
        commits: 451,
        starts: vec![
            Start {
                id: StartId::from_bytes(counted(0xb0)),
                commits: 0,
            },
            Start {
                id: StartId::from_bytes(counted(0xc0)),
                commits: 390,
            },
        ],
        boot_id: counted(0x90),
        wall: NOW,
        version: text("0.1.0"),
        executors: vec![ActionKind::Local],
        locked: policy.is_none(),
        policy,
        concurrent: 16,
        trust: MARK,
        open,
    }
}

pub(super) const OPEN: OpenAttempt = OpenAttempt {
    attempt: ATTEMPT,
    job: JOB,
    fence: FENCE,
};

pub(super) const STATUS: Status = Status {
    cluster: CLUSTER,
    bridge: BRIDGE,
    policy: Some(Digest(counted(0xd0))),
    locked: true,
    concurrent: 250,
    trust: MARK,
    wall: NOW,
};

/// The trust document that the bridge is at.
pub(super) const MARK: TrustMark = TrustMark {
    version: 300,
    document: Digest(counted(0xe0)),
};

/// The trust document after that: the job key is being changed.
pub(super) fn trust_document() -> Result<TrustDocument> {
    Ok(TrustDocument {
        cluster: CLUSTER,
        version: 301,
        previous: MARK.document,
        issued_at: NOW,
        expires: Timestamp::from_millis(1_810_864_577_042),
        trust_key: signing_key(TRUST_KEY)?.public(),
        job_keys: vec![
            signing_key(JOB_KEY)?.public(),
            signing_key(STRANGER_KEY)?.public(),
        ],
        roots: vec![Digest(counted(0xf0))],
    })
}

pub(super) fn receipt(event: ReceiptEvent) -> Receipt {
    Receipt {
        cluster: CLUSTER,
        bridge: BRIDGE,
        journal: JOURNAL,
        attempt: ATTEMPT,
        fence: FENCE,
        event,
        wall: NOW,
        commits: 17,
        boot_ms: 86_400_123,
    }
}

/// The end of an attempt whose log is [`log`].
pub(super) fn exit(outcome: Outcome) -> Result<Exit> {
    let (log, stdout) = (log()?, b"one\ntwo\n");
    let extent = |bytes: &[u8]| Extent {
        bytes: bytes.len() as u64,
        sha256: Some(Digest::of(bytes)),
    };
    Ok(Exit {
        outcome,
        step: 1,
        runtime_ms: 1250,
        log: extent(&log),
        stdout: extent(stdout),
        stderr: extent(b"\0\xff"),
        all_dead: true,
        masked: Some(2),
        message: String::new(),
        found: None,
    })
}

/// The records of a small log: two of standard output, one of standard error between them.
pub(super) fn records() -> Result<Vec<(Header, Vec<u8>)>> {
    let lines: [(u16, Stream, u64, &[u8]); 3] = [
        (0, Stream::Stdout, 7, b"one\n"),
        (0, Stream::Stderr, 12, b"\0\xff"),
        (1, Stream::Stdout, 70_000, b"two\n"),
    ];
    let mut records = Vec::new();
    for (seq, (step, stream, at_ms, bytes)) in (0..).zip(lines) {
        let length = u32::try_from(bytes.len())?;
        records.push((
            Header {
                length,
                step,
                stream,
                seq,
                at_ms,
            },
            bytes.to_vec(),
        ));
    }
    Ok(records)
}

/// Those records as one log.
pub(super) fn log() -> Result<Vec<u8>> {
    let records = records()?;
    let parts = records
        .iter()
        .map(|(header, bytes)| [&header.encode()[..], bytes].concat());
    Ok(parts.collect::<Vec<_>>().concat())
}

/// What authors would have signed; no bridge would take it.
pub(super) fn proof() -> Proof {
    Proof {
        manifest: b"{\"template\":\"t\"}".to_vec(),
        signatures: vec!["-----BEGIN SSH SIGNATURE-----\n".to_owned()],
        approval: None,
    }
}

/// What people would have approved of it besides, as the second of three jobs.
pub(super) fn approved() -> Proof {
    let all = [Digest([1; 32]), Digest([2; 32]), Digest([3; 32])];
    let approval = Approval {
        cluster: CLUSTER,
        id: ApprovalId::from_bytes([24; 16]),
        root: merkle::root(&all),
        jobs: 3,
        not_before: NOW,
        not_after: NOW.after(Duration::from_secs(3600)),
    };
    Proof {
        approval: Some(Approved {
            signed: SignedApproval {
                text: approval.to_string(),
                signatures: proof().signatures,
            },
            index: 1,
            path: merkle::path(&all, 1).unwrap_or_default(),
        }),
        ..proof()
    }
}
