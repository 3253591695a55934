//! The vectors of the encoding, of signatures, of frames and of output.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use steward_shared::action::ActionKind;
use steward_shared::frame::{
    Greeting, Offer, Receipt, ReceiptEvent, Refusal, Renew, Renewed, Status, ToBridge, ToHub,
    Welcome,
};
use steward_shared::id::{AttemptId, JobId};
use steward_shared::job::{Digest, Exit, Extent, Found, FoundFile, OnDisconnect, OnFull, Outcome};
use steward_shared::proof::Proof;
use steward_shared::sign::{Payload, Signed, SigningKey, Verifier, pae};
use steward_shared::template::{Piece, Value as InputValue, Values};
use steward_shared::time::Timestamp;

use super::content::{
    ATTEMPT, CANCEL, CHALLENGE, JOB, JOB_KEY, NONCE, NOW, OPEN, PERMIT, RECEIPT_KEY, STATUS,
    STRANGER_KEY, TRUST_KEY, ack, approved, counted, exit, hello, job, permit_refused, plain_job,
    proof, receipt, signing_key, trust_document,
};
use super::remote::{
    CONNECTION_CLOSED, LEASE_ENDED, attempt_keys, jobs_elsewhere, releasing_permit, seated_keys,
    sharing_permit,
};
use super::vector::{Vector, encoded, envelope, envelope_fields, framed, hex};

/// The smallest values, one rule of the encoding each.
pub(super) fn primitives() -> Result<Vec<Vector>> {
    let mut all = integers()?;
    let text = |text: &str| text.to_owned();
    let map = BTreeMap::from([
        (text("B"), text("2")),
        (text("a"), text("1")),
        (text("é"), text("")),
    ]);
    let mixed = Values::from([
        (text("flag"), InputValue::Boolean(false)),
        (text("many"), InputValue::Integer(i64::MIN)),
        (text("word"), InputValue::Text(text("-x"))),
    ]);
    all.extend([
        encoded!("bool-false", "bool", "", bool, false),
        encoded!("bool-true", "bool", "", bool, true),
        encoded!("string-empty", "string", "", String, String::new()),
        encoded!("string-utf8", "string", "the length counts bytes", String, text("Zürich 世界")),
        encoded!("string-251", "string", "the shortest with a length of three bytes", String, "x".repeat(251)),
        encoded!("option-none", "option<string>", "", Option<String>, None),
        encoded!("option-some", "option<string>", "", Option<String>, Some(text("x"))),
        encoded!("list-empty", "list<string>", "", Vec<String>, Vec::new()),
        encoded!("list", "list<string>", "", Vec<String>, vec![text("a"), text("bc")]),
        encoded!("list-i32", "list<i32>", "", Vec<i32>, vec![0, 1, -1, 255]),
        encoded!("map", "map<string,string>", "ascending by the keys' bytes", BTreeMap<String, String>, map),
        encoded!("tuple", "(id,u64)", "", (AttemptId, u64), (ATTEMPT, 65_536)),
        encoded!("id", "id", "sixteen bytes without a length", JobId, JOB),
        encoded!("digest", "digest", "32 bytes without a length; of no bytes here", Digest, Digest::of(b"")),
        encoded!("timestamp", "timestamp", "a u64, in milliseconds", Timestamp, NOW),
        encoded!("value-map", "map<string,value>", "", Values, mixed),
        encoded!("enum-unit", "executor", "", ActionKind, ActionKind::Local),
        encoded!("enum-unit-second", "on_full", "", OnFull, OnFull::Kill),
        encoded!("enum-with-value", "on_disconnect", "", OnDisconnect, OnDisconnect::StopAfter(600_000)),
        encoded!("enum-with-text", "piece", "", Piece, Piece::Name(text("path"))),
    ]);
    Ok(all)
}

fn integers() -> Result<Vec<Vector>> {
    let mut all = vec![
        encoded!("u16-max", "u16", "", u16, u16::MAX),
        encoded!("u32-max", "u32", "", u32, u32::MAX),
        encoded!("i32-min", "i32", "zigzag", i32, i32::MIN),
        encoded!("i32-max", "i32", "zigzag", i32, i32::MAX),
    ];
    for (number, note) in [
        (0, ""),
        (250, "the greatest of one byte"),
        (251, "the least of three bytes"),
        (65_535, "the greatest of three bytes"),
        (65_536, "the least of five bytes"),
        (4_294_967_295, "the greatest of five bytes"),
        (4_294_967_296, "the least of nine bytes"),
        (u64::MAX, "the greatest"),
    ] {
        all.push(encoded!(format!("u64-{number}"), "u64", note, u64, number));
    }
    for number in [0, -1, 1, -125, 125, -126, 126, i64::MIN, i64::MAX] {
        all.push(encoded!(
            format!("i64-{number}"),
            "i64",
            "zigzag",
            i64,
            number
        ));
    }
    Ok(all)
}

/// The keys that have signed the vectors.
pub(super) fn keys() -> Result<Value> {
    let mut all = serde_json::Map::new();
    for (name, first) in [
        ("job", JOB_KEY),
        ("receipt", RECEIPT_KEY),
        ("stranger", STRANGER_KEY),
        ("trust", TRUST_KEY),
    ] {
        let public = signing_key(first)?.public();
        let shown = json!({
            "seed": hex(&counted::<32>(first)),
            "public": hex(&public.0),
            "id": public.digest(),
        });
        all.insert(name.to_owned(), shown);
    }
    Ok(Value::Object(all))
}

/// What is signed, without any signature.
pub(super) fn encodings_to_sign() -> Vec<Vector> {
    let cases: [(&str, &'static str, &[u8]); 3] = [
        ("pae-of-nothing", "", b""),
        (
            "pae-of-the-standard",
            "http://example.com/HelloWorld",
            b"hello world",
        ),
        (
            "pae-of-a-purpose",
            "application/vnd.steward.ack.v1+bincode",
            &[0, 255, 32],
        ),
    ];
    let vector = |(name, purpose, body): (&str, &'static str, &[u8])| {
        let body = body.to_vec();
        let shown = hex(&body);
        let read = move |bytes: &[u8]| Ok(bytes == pae(purpose, &body));
        let bytes = pae(purpose, &super::vector::unhex(&shown).unwrap_or_default());
        Vector::new(name, "pae", "DSSE v1.0.2", bytes, Box::new(read))
            .with("payload_type", json!(purpose))
            .with("body", json!(shown))
    };
    cases.into_iter().map(vector).collect()
}

struct Signer {
    key: SigningKey,
    verifier: Verifier,
}

impl Signer {
    fn new(first: u8) -> Result<Self> {
        let key = signing_key(first)?;
        let verifier = Verifier::new(&key.public())?;
        Ok(Self { key, verifier })
    }

    fn vector<T>(
        &self,
        name: &str,
        kind: &'static str,
        note: &'static str,
        content: T,
    ) -> Result<Vector>
    where
        T: Payload + PartialEq + 'static,
    {
        let signed = Signed::new(&content, &self.key)?;
        envelope(name, kind, note, content, &signed, self.verifier.clone())
    }
}

/// Every message that is signed, in its envelope.
pub(super) fn envelopes() -> Result<Vec<Vector>> {
    let (hub, bridge) = (Signer::new(JOB_KEY)?, Signer::new(RECEIPT_KEY)?);
    let mut all = vec![
        hub.vector(
            "job",
            "signed<job>",
            "everything that a job can have",
            job()?,
        )?,
        hub.vector(
            "job-plain",
            "signed<job>",
            "as little as a job can have",
            plain_job()?,
        )?,
    ];
    for (name, note, job) in jobs_elsewhere()? {
        all.push(hub.vector(name, "signed<job>", note, job)?);
    }
    all.extend([
        hub.vector(
            "permit-refused",
            "signed<permit_refused>",
            "",
            permit_refused("the attempt is withdrawn"),
        )?,
        hub.vector("cancel", "signed<cancel>", "", CANCEL)?,
        hub.vector("ack", "signed<ack>", "", ack(4096, false))?,
        hub.vector("ack-settled", "signed<ack>", "", ack(0, true))?,
        bridge.vector(
            "hello",
            "signed<hello>",
            "",
            hello(vec![OPEN], Some(Digest(counted(0xd0)))),
        )?,
        bridge.vector(
            "hello-idle",
            "signed<hello>",
            "no policy, nothing open",
            hello(Vec::new(), None),
        )?,
        bridge.vector("status", "signed<status>", "", STATUS)?,
        bridge.vector(
            "status-no-policy",
            "signed<status>",
            "",
            Status {
                policy: None,
                ..STATUS
            },
        )?,
    ]);
    all.extend(permits(&hub, &bridge)?);
    all.push(Signer::new(TRUST_KEY)?.vector(
        "trust",
        "signed<trust>",
        "while the job key is being changed",
        trust_document()?,
    )?);
    for (name, event) in events()? {
        all.push(bridge.vector(&name, "signed<receipt>", "", receipt(event))?);
    }
    Ok(all)
}

/// What is said of credentials and of connections that are shared.
fn permits(hub: &Signer, bridge: &Signer) -> Result<Vec<Vector>> {
    Ok(vec![
        hub.vector("permit", "signed<permit>", "", PERMIT)?,
        hub.vector(
            "permit-releasing",
            "signed<permit>",
            "with a credential",
            releasing_permit(),
        )?,
        hub.vector(
            "permit-sharing",
            "signed<permit>",
            "on a connection that is open",
            sharing_permit(),
        )?,
        hub.vector("lease-ended", "signed<lease_ended>", "", LEASE_ENDED)?,
        bridge.vector(
            "connection-closed",
            "signed<connection_closed>",
            "",
            CONNECTION_CLOSED,
        )?,
    ])
}

/// Every event that a receipt can tell.
fn events() -> Result<Vec<(String, ReceiptEvent)>> {
    let refusal = Refusal {
        clause: "policy.local.binaries".to_owned(),
        message: "/usr/bin/tail is not among the programs that may run here".to_owned(),
    };
    let mut all = vec![
        ("receipt-accepted".to_owned(), ReceiptEvent::Accepted),
        ("receipt-refused".to_owned(), ReceiptEvent::Refused(refusal)),
        (
            "receipt-start-request".to_owned(),
            ReceiptEvent::StartRequest {
                nonce: NONCE,
                keys: None,
            },
        ),
        (
            "receipt-start-request-with-keys".to_owned(),
            ReceiptEvent::StartRequest {
                nonce: NONCE,
                keys: Some(attempt_keys()),
            },
        ),
        (
            "receipt-start-request-on-connection".to_owned(),
            ReceiptEvent::StartRequest {
                nonce: NONCE,
                keys: Some(seated_keys()),
            },
        ),
        ("receipt-started".to_owned(), ReceiptEvent::Started),
        (
            "receipt-not-started".to_owned(),
            ReceiptEvent::NotStarted {
                reason: "cancelled before the start".to_owned(),
            },
        ),
    ];
    for (name, outcome) in [
        ("cancelled", Outcome::Cancelled),
        ("exited", Outcome::Exited(-7)),
        ("interrupted", Outcome::Interrupted),
        (
            "limit-exceeded",
            Outcome::LimitExceeded("output".to_owned()),
        ),
        ("signalled", Outcome::Signalled(11)),
        ("succeeded", Outcome::Succeeded(0)),
        ("timed-out", Outcome::TimedOut),
    ] {
        all.push((
            format!("receipt-exited-{name}"),
            ReceiptEvent::Exited(exit(outcome)?),
        ));
    }
    all.push((
        "receipt-exited-unknown".to_owned(),
        ReceiptEvent::Exited(unknown()?),
    ));
    Ok(all)
}

/// A runner that died after it had handed over the beginning knows lengths and no digests.
fn unknown() -> Result<Exit> {
    let told = exit(Outcome::Unknown)?;
    let half = |extent: Extent| Extent {
        sha256: None,
        ..extent
    };
    Ok(Exit {
        log: half(told.log),
        stdout: half(told.stdout),
        stderr: half(told.stderr),
        all_dead: false,
        masked: None,
        found: Some(Box::new(Found {
            results: Values::from([("uid".to_owned(), InputValue::Integer(1000))]),
            files: vec![FoundFile {
                step: 3,
                bytes: 70_000,
                sha256: Digest(counted(0xd0)),
            }],
            host_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA".to_owned()],
        })),
        message: "it cannot be proven that the command is dead".to_owned(),
        ..told
    })
}

/// Every frame from the hub to a bridge.
pub(super) fn to_bridge() -> Result<Vec<Vector>> {
    let key = signing_key(JOB_KEY)?;
    let welcome = Welcome {
        hub_time: NOW,
        have: vec![(ATTEMPT, 70_000)],
    };
    let refused = permit_refused("the attempt is withdrawn");
    let renewed = |certificate: &[u8]| Renewed {
        certificate: certificate.to_vec(),
        request: Digest::of(b"request"),
    };
    let mut all = Vec::new();
    for (name, note, frame) in [
        ("challenge", "", ToBridge::Challenge(CHALLENGE)),
        ("welcome", "", ToBridge::Welcome(welcome)),
        (
            "renewed",
            "a certificate would be longer",
            ToBridge::Renewed(renewed(b"certificate")),
        ),
        (
            "renewed-refused",
            "no certificate",
            ToBridge::Renewed(renewed(b"")),
        ),
    ] {
        let shown = serde_json::to_value(&frame)?;
        all.push(framed!(name, "to_bridge", note, ToBridge, frame, shown));
    }
    macro_rules! signed {
        ($name:expr, $variant:ident, $content:expr) => {{
            let content = $content;
            let signed = Signed::new(&content, &key)?;
            let shown = json!({ stringify!($variant): envelope_fields(&signed, &content)? });
            let frame = ToBridge::$variant(signed);
            all.push(framed!($name, "to_bridge", "", ToBridge, frame, shown));
        }};
    }
    for (name, proof) in [
        ("offer", None),
        ("offer-of-a-signed-template", Some(proof())),
        ("offer-of-an-approved-run", Some(approved())),
    ] {
        let content = job()?;
        let signed = Signed::new(&content, &key)?;
        let shown = json!({ "Offer": {
            "job": envelope_fields(&signed, &content)?,
            "proof": proof.as_ref().map(|proof: &Proof| json!({
                "manifest": hex(&proof.manifest),
                "signatures": proof.signatures,
                "approval": proof.approval,
            })),
        }});
        let frame = ToBridge::Offer(Offer {
            job: signed,
            proof: proof.map(Box::new),
        });
        all.push(framed!(name, "to_bridge", "", ToBridge, frame, shown));
    }
    signed!("permit", Permit, PERMIT);
    signed!("permit-refused", PermitRefused, refused);
    signed!("cancel", Cancel, CANCEL);
    signed!("ack", Ack, ack(4096, false));
    let document = trust_document()?;
    let signed = Signed::new(&document, &signing_key(TRUST_KEY)?)?;
    let shown = json!({ "Trust": [envelope_fields(&signed, &document)?] });
    let frame = ToBridge::Trust(vec![signed]);
    all.push(framed!("trust", "to_bridge", "", ToBridge, frame, shown));
    signed!("lease-ended", LeaseEnded, LEASE_ENDED);
    Ok(all)
}

/// Every frame from a bridge to the hub.
pub(super) fn to_hub() -> Result<Vec<Vector>> {
    let key = signing_key(RECEIPT_KEY)?;
    let greeting = ToHub::Greeting(Greeting {
        version: "0.1.0".to_owned(),
    });
    let renew = ToHub::Renew(Renew {
        request: b"request".to_vec(),
    });
    let mut all = Vec::new();
    for (name, note, frame) in [
        ("greeting", "", greeting),
        ("renew", "a request would be longer", renew),
    ] {
        let shown = serde_json::to_value(&frame)?;
        all.push(framed!(name, "to_hub", note, ToHub, frame, shown));
    }
    let hello = hello(vec![OPEN], Some(Digest(counted(0xd0))));
    let signed = Signed::new(&hello, &key)?;
    let shown = json!({ "Hello": envelope_fields(&signed, &hello)? });
    all.push(framed!(
        "hello",
        "to_hub",
        "",
        ToHub,
        ToHub::Hello(signed),
        shown
    ));
    let signed = Signed::new(&STATUS, &key)?;
    let shown = json!({ "Status": envelope_fields(&signed, &STATUS)? });
    all.push(framed!(
        "status",
        "to_hub",
        "",
        ToHub,
        ToHub::Status(signed),
        shown
    ));
    let signed = Signed::new(&CONNECTION_CLOSED, &key)?;
    let shown = json!({ "ConnectionClosed": envelope_fields(&signed, &CONNECTION_CLOSED)? });
    all.push(framed!(
        "connection-closed",
        "to_hub",
        "",
        ToHub,
        ToHub::ConnectionClosed(signed),
        shown
    ));
    for (name, event) in events()? {
        let content: Receipt = receipt(event);
        let signed = Signed::new(&content, &key)?;
        let shown = json!({ "Receipt": envelope_fields(&signed, &content)? });
        all.push(framed!(
            name,
            "to_hub",
            "",
            ToHub,
            ToHub::Receipt(signed),
            shown
        ));
    }
    Ok(all)
}
