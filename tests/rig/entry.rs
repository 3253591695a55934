//! The entry points that a stranger's bytes reach first. Called with any bytes at all, none may panic, and
//! none may take what should not be taken.
//!
//! Called by the fuzz targets in `tests/fuzz`, and with seeded mutations by `it/fuzz`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::pin::pin;
use std::str::FromStr;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use steward_bridge::policy::Policy;
use steward_bridge::wire;
use steward_certs::authority::Authority;
use steward_certs::enrol::{EnrolAnswer, EnrolRequest, Token};
use steward_certs::fingerprint::Pin;
use steward_shared::approval::Approval;
use steward_shared::codec;
use steward_shared::frame::{
    Ack, Cancel, Hello, OutputHeader, Permit, PermitRefused, Receipt, Status, ToBridge, ToHub,
    ToLink, ToRunner,
};
use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::job::Job;
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::log::Records;
use steward_shared::secret::Secret;
use steward_shared::sign::{Payload, Signed, SigningKey, Verifier};
use steward_shared::template::{Document, parse_documents};
use steward_shared::time::Timestamp;

/// An entry point: whether it took the bytes.
pub type Entry = fn(&[u8]) -> bool;

/// Every entry point by the name of its fuzz target.
pub const ENTRIES: [(&str, Entry); 9] = [
    ("codec", codec),
    ("envelope", envelope),
    ("frames", frames),
    ("enrolment_request", enrolment_request),
    ("approval", approval),
    ("policy_file", policy_file),
    ("template", template),
    ("output_records", output_records),
    ("token", token),
];

/// The one encoding: the first byte says of what. What is read is written as the same bytes.
pub fn codec(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else {
        return false;
    };
    match kind % 8 {
        0 => canonical::<u64>(bytes),
        1 => canonical::<i64>(bytes),
        2 => canonical::<String>(bytes),
        3 => canonical::<Option<String>>(bytes),
        4 => canonical::<Vec<String>>(bytes),
        5 => canonical::<BTreeMap<String, String>>(bytes),
        6 => canonical::<Job>(bytes),
        _ => canonical::<Hello>(bytes),
    }
}

fn canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(value) = codec::decode::<T>(bytes, FRAME_BYTES_MAX) else {
        return false;
    };
    let again = codec::encode(&value, FRAME_BYTES_MAX);
    assert_eq!(again.as_deref(), Ok(bytes), "two encodings of one value");
    true
}

/// A signed message of any kind, under the keys of the vectors. What is believed is believed for one purpose
/// only, and has the one signature that its key makes.
pub fn envelope(bytes: &[u8]) -> bool {
    let purposes = [
        believed::<Job>(bytes),
        believed::<Permit>(bytes),
        believed::<PermitRefused>(bytes),
        believed::<Cancel>(bytes),
        believed::<Ack>(bytes),
        believed::<Hello>(bytes),
        believed::<Status>(bytes),
        believed::<Receipt>(bytes),
    ];
    let count = purposes.into_iter().filter(|believed| *believed).count();
    assert!(count <= 1, "signed for {count} purposes");
    count == 1
}

fn believed<T: Payload + Debug>(bytes: &[u8]) -> bool {
    let Ok(signed) = codec::decode::<Signed<T>>(bytes, FRAME_BYTES_MAX) else {
        return false;
    };
    KEYS.iter().any(|(key, verifier)| {
        let Ok(content) = signed.verify([verifier]) else {
            return false;
        };
        assert_eq!(Signed::new(&content, key).as_ref(), Ok(&signed), "forged");
        true
    })
}

/// The keys of the vectors that are trusted for something; their seeds are no secret.
static KEYS: LazyLock<Vec<(SigningKey, Verifier)>> = LazyLock::new(|| {
    let key = |first: u8| {
        let seed = Secret::new((first..first + 32).collect::<Vec<u8>>());
        let key = SigningKey::from_seed(&seed).ok()?;
        let verifier = Verifier::new(&key.public()).ok()?;
        Some((key, verifier))
    };
    [0x00, 0x20].into_iter().filter_map(key).collect()
});

/// A stream of frames, as each of those who read one.
pub fn frames(bytes: &[u8]) -> bool {
    let counts = [
        read::<ToHub>(bytes),
        read::<ToBridge>(bytes),
        read::<ToRunner>(bytes),
        read::<ToLink>(bytes),
        read::<OutputHeader>(bytes),
    ];
    counts.into_iter().any(|count| count > 0)
}

/// How many frames of this kind the stream has before it has none.
fn read<T: Serialize + DeserializeOwned>(mut stream: &[u8]) -> usize {
    let mut count = 0;
    loop {
        let before = stream;
        let frame =
            pin!(wire::read::<T, _>(&mut stream)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok(frame)) = frame else {
            return count;
        };
        let used = before.len() - stream.len();
        let whole = codec::encode(&frame, FRAME_BYTES_MAX).map(|frame| frame.len() + 4);
        assert_eq!(whole, Ok(used), "a frame took more or less than itself");
        count += 1;
    }
}

/// What a hub reads from a bridge that is to be enrolled, and a bridge from its hub.
pub fn enrolment_request(bytes: &[u8]) -> bool {
    let answered = EnrolAnswer::decode(bytes).is_ok_and(|answer| {
        if let EnrolAnswer::Enrolled(enrolment) = &answer {
            let verified = enrolment.verify(&VECTORS_PIN, &VECTORS_PIN);
            assert!(verified.is_err(), "an authority is no bridge");
        }
        assert_eq!(answer.encode().as_deref(), Ok(bytes), "two encodings");
        true
    });
    // The signing request comes from outside too, and is read by another parser.
    let issue = |request: &[u8]| {
        let (bridge, now) = (BridgeId::from_bytes([7; 16]), NOW);
        let authority = AUTHORITY.as_ref();
        authority.and_then(|it| it.issue_bridge(request, bridge, now, HOUR).ok())
    };
    let issued = issue(bytes).is_some();
    let requested = EnrolRequest::decode(bytes, &[*VECTORS_PIN]).is_ok_and(|request| {
        assert_eq!(request.encode().as_deref(), Ok(bytes), "two encodings");
        issue(&request.request);
        true
    });
    answered || issued || requested
}

const HOUR: Duration = Duration::from_secs(3600);
const NOW: Timestamp = Timestamp::from_millis(1_795_312_577_042);

static AUTHORITY: LazyLock<Option<Authority>> =
    LazyLock::new(|| Authority::create(ClusterId::from_bytes([9; 16]), NOW).ok());

/// The pin of the authority in the vectors.
static VECTORS_PIN: LazyLock<Pin> = LazyLock::new(|| {
    const PIN: &str = "sha256:617f6e932268c73fbd0ce337440192bc2faade76d0565f82dd9e8b52db7eec35";
    let pin = Pin::from_str(PIN);
    assert!(pin.is_ok(), "the pin of the vectors is one");
    pin.unwrap_or_else(|_| std::process::abort())
});

/// The text of an approval, which comes beside a job. There is one text for one approval.
pub fn approval(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(approval) = Approval::parse(text) else {
        return false;
    };
    assert_eq!(approval.to_string(), text, "two texts of one approval");
    true
}

/// A policy file, which an operator has written.
pub fn policy_file(bytes: &[u8]) -> bool {
    Policy::parse(Path::new("policy.toml"), bytes).is_ok()
}

/// Documents of templates and tasks, which a user has sent.
pub fn template(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(documents) = parse_documents(text) else {
        return false;
    };
    for document in &documents {
        if let Document::Template { manifest, .. } = document {
            assert_eq!(
                manifest.sha256(),
                manifest.sha256(),
                "a digest that changes"
            );
            drop(manifest.schema());
        }
    }
    true
}

/// An attempt's log; the first byte says how it is cut on its way. The records are the same however it is.
pub fn output_records(bytes: &[u8]) -> bool {
    let Some((cut, log)) = bytes.split_first() else {
        return false;
    };
    let whole = records(log, log.len().max(1));
    let cut = records(log, usize::from(*cut).max(1));
    assert_eq!(whole, cut, "records that depend on how they arrive");
    whole.is_some_and(|records| records > 0)
}

fn records(log: &[u8], piece: usize) -> Option<usize> {
    let (mut records, mut count) = (Records::default(), 0);
    for piece in log.chunks(piece) {
        records.push(piece);
        while let Some((header, bytes)) = records.next_record().ok()? {
            assert_eq!(
                u32::try_from(bytes.len()),
                Ok(header.length),
                "another length"
            );
            count += 1;
        }
    }
    Some(count)
}

/// A join token, which somebody has pasted. There is one text for one token.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(token) = Token::from_str(text) else {
        return false;
    };
    assert_eq!(token.text().expose(), bytes, "two texts of one token");
    true
}
