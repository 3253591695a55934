//! A rogue bridge says what the protocol forbids, one thing on each connection.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use steward_shared::codec;
use steward_shared::frame::{
    Greeting, Hello, OpenAttempt, Receipt, ReceiptEvent, Refusal, Renew, Start, Status, ToHub,
};
use steward_shared::id::{AttemptId, BridgeId, ClusterId, JobId, StartId};
use steward_shared::job::{Exit, Extent, Outcome};
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::sign::{Payload, Signed, SigningKey};
use steward_shared::time::{Clock, SystemClock, Timestamp};

use super::bridge::{Line, MISBEHAVED, REFUSED, RogueBridge, frame, framed};
use super::watch::{MIB, Watch};

/// What is wrong, and the bytes that are.
type Case = (String, Vec<u8>);

fn case(what: &str, bytes: Vec<u8>) -> Case {
    (what.to_owned(), bytes)
}

/// The frame of this number with a signed message of whatever kind in it.
fn placed<T: Payload>(number: u8, signed: &Signed<T>) -> Result<Vec<u8>> {
    framed(&[&[number], &codec::encode(signed, FRAME_BYTES_MAX)?[..]].concat())
}

const RECEIPT: u8 = 2;
const STATUS: u8 = 3;

fn status(rogue: &RogueBridge) -> Status {
    Status {
        cluster: rogue.identity.cluster,
        bridge: rogue.identity.bridge,
        policy: None,
        locked: false,
        concurrent: 0,
        trust: rogue.trust,
        wall: SystemClock.now(),
    }
}

pub(super) fn exit(bytes: u64) -> Exit {
    let extent = Extent {
        bytes,
        sha256: None,
    };
    Exit {
        outcome: Outcome::Succeeded(0),
        step: 0,
        runtime_ms: 1,
        log: extent,
        stdout: extent,
        stderr: extent,
        all_dead: true,
        masked: Some(0),
        message: String::new(),
        found: None,
    }
}

/// Every frame from a hub, as the vectors have it.
pub(super) fn hub_frames() -> Result<Vec<Vec<u8>>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/to_bridge.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let vectors = file["vectors"].as_array().context("no vectors")?;
    let hex = |vector: &Value| {
        let text = vector["hex"].as_str().context("no hex")?;
        crate::vectors::unhex(text)
    };
    vectors.iter().map(hex).collect()
}

/// What is no frame at all.
fn no_frames() -> Result<Vec<Case>> {
    let too_large = u32::try_from(FRAME_BYTES_MAX + 1)?.to_le_bytes().to_vec();
    let good = codec::encode(&ToHub::Renew(Renew { request: vec![1] }), FRAME_BYTES_MAX)?;
    let mut lying = vec![4, 253];
    lying.extend_from_slice(&u64::MAX.to_le_bytes());
    Ok(vec![
        case("a length of 2^32 - 1", vec![0xff; 4]),
        case("a length beyond the limit", too_large),
        case("an empty frame", framed(&[])?),
        case("a byte left over", framed(&[&good[..], &[0]].concat())?),
        case("a frame cut short", framed(&good[..good.len() - 1])?),
        case("an unknown frame", framed(&[5])?),
        case(
            "a frame of number 2^32 - 1",
            framed(&[252, 255, 255, 255, 255])?,
        ),
        case(
            "a number too long",
            framed(&[&[251, 4, 0], &good[1..]].concat())?,
        ),
        case("a length that lies", framed(&lying)?),
        case("zeros", vec![0; 4096]),
        case("text", b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec()),
    ])
}

/// What a bridge with a Welcome must not say.
fn after_welcome(
    rogue: &RogueBridge,
    nonce: [u8; 16],
    mine: (AttemptId, u64),
    other: (AttemptId, u64),
) -> Result<Vec<Case>> {
    let receipt = rogue.receipt(AttemptId::random(), 1, ReceiptEvent::Accepted);
    let (status, hello) = (status(rogue), rogue.hello(nonce));
    let stranger = SigningKey::from_seed(&SigningKey::new_seed()?)?;
    let signed = rogue.sign(&receipt)?;
    let mut cases = no_frames()?;
    for (number, bytes) in hub_frames()?.into_iter().enumerate() {
        cases.push((format!("the hub's own frame {number}"), bytes));
    }
    let good = frame(&ToHub::Receipt(signed.clone()))?;
    for (what, at) in [("body", 60), ("signature", good.len() - 10), ("key", 10)] {
        let mut altered = good.clone();
        altered[at] ^= 1;
        cases.push((format!("a receipt altered in its {what}"), altered));
    }
    let greeting = Greeting {
        version: String::new(),
    };
    cases.extend([
        case("a second greeting", frame(&ToHub::Greeting(greeting))?),
        case("a second Hello", frame(&ToHub::Hello(rogue.sign(&hello)?))?),
        case(
            "a stranger's receipt",
            placed(RECEIPT, &Signed::new(&receipt, &stranger)?)?,
        ),
        case(
            "a stranger's status",
            placed(STATUS, &Signed::new(&status, &stranger)?)?,
        ),
        case(
            "a status as a receipt",
            placed(RECEIPT, &rogue.sign(&status)?)?,
        ),
        case(
            "a Hello as a receipt",
            placed(RECEIPT, &rogue.sign(&hello)?)?,
        ),
        case("a receipt as a status", placed(STATUS, &signed)?),
        case("a Hello as a status", placed(STATUS, &rogue.sign(&hello)?)?),
    ]);
    cases.extend(foreign(rogue)?);
    cases.extend(of_others(rogue, mine, other)?);
    Ok(cases)
}

/// Messages that the rogue has signed for another cluster or bridge.
fn foreign(rogue: &RogueBridge) -> Result<Vec<Case>> {
    let receipt = rogue.receipt(AttemptId::random(), 1, ReceiptEvent::Accepted);
    let (status, mut cases) = (status(rogue), Vec::new());
    let (cluster, bridge) = (ClusterId::random(), BridgeId::random());
    let foreign = Receipt {
        cluster,
        ..receipt.clone()
    };
    cases.push(case(
        "another cluster's receipt",
        placed(RECEIPT, &rogue.sign(&foreign)?)?,
    ));
    let foreign = Receipt { bridge, ..receipt };
    cases.push(case(
        "another bridge's receipt",
        placed(RECEIPT, &rogue.sign(&foreign)?)?,
    ));
    let foreign = Status { cluster, ..status };
    cases.push(case(
        "another cluster's status",
        placed(STATUS, &rogue.sign(&foreign)?)?,
    ));
    let cluster = rogue.identity.cluster;
    let foreign = Status {
        cluster,
        bridge,
        ..foreign
    };
    cases.push(case(
        "another bridge's status",
        placed(STATUS, &rogue.sign(&foreign)?)?,
    ));
    Ok(cases)
}

/// What is said of attempts that are not the rogue's, or not so far.
fn of_others(
    rogue: &RogueBridge,
    mine: (AttemptId, u64),
    other: (AttemptId, u64),
) -> Result<Vec<Case>> {
    let told = |(attempt, fence): (AttemptId, u64), event| rogue.told(attempt, fence, event);
    let mut cases = Vec::new();
    for (what, attempt) in [
        ("of another bridge", other),
        ("of another fence", (mine.0, mine.1 + 1)),
        ("of no fence", (mine.0, 0)),
    ] {
        for event in events() {
            cases.push((
                format!("{event:?} of an attempt {what}"),
                told(attempt, event)?,
            ));
        }
    }
    cases.extend([
        case(
            "Started without a permit",
            told(mine, ReceiptEvent::Started)?,
        ),
        case(
            "Exited without a permit",
            told(mine, ReceiptEvent::Exited(exit(0)))?,
        ),
    ]);
    Ok(cases)
}

/// One event of each kind.
pub(super) fn events() -> [ReceiptEvent; 6] {
    let refusal = Refusal {
        clause: "policy".to_owned(),
        message: "no".to_owned(),
    };
    [
        ReceiptEvent::Accepted,
        ReceiptEvent::Refused(refusal),
        ReceiptEvent::StartRequest {
            nonce: [3; 16],
            keys: None,
        },
        ReceiptEvent::Started,
        ReceiptEvent::NotStarted {
            reason: "no".to_owned(),
        },
        ReceiptEvent::Exited(exit(0)),
    ]
}

/// What must not stand in the place of a greeting.
fn instead_of_greeting(rogue: &RogueBridge) -> Result<Vec<Case>> {
    let receipt = rogue.receipt(AttemptId::random(), 1, ReceiptEvent::Accepted);
    let mut cases = no_frames()?;
    cases.extend([
        case(
            "Hello first",
            frame(&ToHub::Hello(rogue.sign(&rogue.hello([0; 16]))?))?,
        ),
        case(
            "a receipt first",
            frame(&ToHub::Receipt(rogue.sign(&receipt)?))?,
        ),
        case(
            "a status first",
            frame(&ToHub::Status(rogue.sign(&status(rogue))?))?,
        ),
        case(
            "a renewal first",
            frame(&ToHub::Renew(Renew { request: vec![1] }))?,
        ),
    ]);
    Ok(cases)
}

/// What must not stand in the place of a Hello that answers this nonce.
fn instead_of_hello(rogue: &RogueBridge, nonce: [u8; 16], used: &[u8]) -> Result<Vec<Case>> {
    let good = rogue.hello(nonce);
    let stranger = SigningKey::from_seed(&SigningKey::new_seed()?)?;
    let receipt = rogue.receipt(AttemptId::random(), 1, ReceiptEvent::Accepted);
    let mut cases = no_frames()?;
    cases.extend([
        case(
            "a greeting again",
            frame(&ToHub::Greeting(Greeting {
                version: String::new(),
            }))?,
        ),
        case(
            "a receipt before Hello",
            frame(&ToHub::Receipt(rogue.sign(&receipt)?))?,
        ),
        case("a Hello of another connection", used.to_vec()),
        case(
            "a stranger's Hello",
            placed(1, &Signed::new(&good, &stranger)?)?,
        ),
        case(
            "a status as a Hello",
            placed(1, &rogue.sign(&status(rogue))?)?,
        ),
    ]);
    cases.extend(wrong_hellos(rogue, good)?);
    Ok(cases)
}

/// Hellos that the rogue has signed, with one thing wrong in each.
fn wrong_hellos(rogue: &RogueBridge, good: Hello) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let open = |_| OpenAttempt {
        attempt: AttemptId::random(),
        job: JobId::random(),
        fence: 1,
    };
    let start = |_| Start {
        id: StartId::random(),
        commits: 0,
    };
    let wrong: [(&str, Hello); 7] = [
        (
            "another nonce",
            Hello {
                nonce: [1; 16],
                ..good.clone()
            },
        ),
        (
            "another cluster",
            Hello {
                cluster: ClusterId::random(),
                ..good.clone()
            },
        ),
        (
            "another bridge",
            Hello {
                bridge: BridgeId::random(),
                ..good.clone()
            },
        ),
        (
            "too many attempts",
            Hello {
                open: (0..1025).map(open).collect(),
                ..good.clone()
            },
        ),
        (
            "no start",
            Hello {
                starts: Vec::new(),
                ..good.clone()
            },
        ),
        (
            "too many starts",
            Hello {
                starts: (0..513).map(start).collect(),
                ..good.clone()
            },
        ),
        (
            "a seq that ends all counting",
            Hello {
                seq: u64::MAX,
                ..good
            },
        ),
    ];
    for (what, hello) in wrong {
        cases.push((
            format!("a Hello with {what}"),
            placed(1, &rogue.sign(&hello)?)?,
        ));
    }
    Ok(cases)
}

/// Whatever an enrolled bridge says wrong ends its connection with the code that the protocol names, starts
/// nothing and changes nothing, and honest jobs go on.
#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_say_what_is_forbidden() -> Result<()> {
    let watch = Watch::new().await?;
    let mut rogue = RogueBridge::enrolled(&watch.world, &watch.hub, "br-wild", "wild").await?;
    watch
        .during(
            "forbidden messages",
            12 * MIB,
            Box::pin(say_all(&watch, &mut rogue)),
        )
        .await?;
    watch.passed().await
}

async fn say_all(watch: &Watch, rogue: &mut RogueBridge) -> Result<String> {
    let (other, fence) = watch.honest_attempt()?;
    let other: (AttemptId, u64) = (other.parse()?, fence);
    rogue.concurrent = 1;
    let (mut line, _) = rogue.enter().await?;
    watch.api.run("wild").await?;
    let job = rogue.offered(&mut line).await?;
    let mine = (job.attempt, job.fence);
    let used = frame(&ToHub::Hello(rogue.sign(&rogue.hello(line.nonce))?))?;
    drop(line);

    let count = after_welcome(rogue, [0; 16], mine, other)?.len();
    for number in 0..count {
        let (mut line, _) = rogue.enter().await?;
        let (what, bytes) = after_welcome(rogue, line.nonce, mine, other)?.swap_remove(number);
        line.attack(&bytes).await;
        line.closes(MISBEHAVED, &what).await?;
    }
    let mut early = 0;
    for (what, bytes) in instead_of_greeting(rogue)? {
        let connection = rogue.dial().await?;
        let (send, receive) = connection.open_bi().await?;
        let nonce = [0; 16];
        let mut line = Line {
            connection,
            send,
            receive,
            nonce,
        };
        line.attack(&bytes).await;
        line.closes(REFUSED, &what).await?;
        early += 1;
    }
    let hellos = instead_of_hello(rogue, [0; 16], &used)?.len();
    for number in 0..hellos {
        let mut line = rogue.greet().await?;
        let (what, bytes) = instead_of_hello(rogue, line.nonce, &used)?.swap_remove(number);
        line.attack(&bytes).await;
        line.closes(REFUSED, &what).await?;
    }
    let states: Vec<String> = watch
        .wild_attempts()?
        .into_iter()
        .map(|(_, state, _)| state)
        .collect();
    ensure!(states == ["offered"], "something has happened: {states:?}");
    let after_end = late_events(watch, rogue).await?;
    let before = early + hellos;
    Ok(format!(
        "{count} after the Welcome, {before} before it, {after_end} after the end"
    ))
}

/// Events about an attempt that has ended without a start, and about attempts that never were.
async fn late_events(watch: &Watch, rogue: &mut RogueBridge) -> Result<usize> {
    let (mut line, _) = rogue.enter().await?;
    let job = rogue.offered(&mut line).await?;
    rogue.seq = job.seq;
    rogue.concurrent = 0;
    let mine = (job.attempt, job.fence);
    let [accepted, refused, request, started, not_started, exited] = events();
    for event in [refused, accepted, request, not_started] {
        let told = rogue.told(mine.0, mine.1, event)?;
        line.send.write_all(&told).await?;
    }
    rogue.heard(&mut line).await?;
    for event in [started, exited] {
        let (mut line, _) = rogue.enter().await?;
        line.attack(&rogue.told(mine.0, mine.1, event)?).await;
        line.closes(MISBEHAVED, "a start after a refusal").await?;
    }
    let (mut line, _) = rogue.enter().await?;
    for event in events() {
        let far = Receipt {
            wall: Timestamp::from_millis(u64::MAX),
            boot_ms: u64::MAX,
            ..rogue.receipt(AttemptId::random(), u64::MAX, event)
        };
        line.send
            .write_all(&frame(&ToHub::Receipt(rogue.sign(&far)?))?)
            .await?;
    }
    rogue.heard(&mut line).await?;
    let attempts = watch.wild_attempts()?;
    let (_, state, _) = attempts.first().context("no attempt")?;
    ensure!(state == "refused", "{attempts:?}");
    Ok(6 + events().len())
}
