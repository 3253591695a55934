//! The vectors that must be refused, each with its reason.

mod enrolment;
mod signatures;

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use steward_certs::fingerprint::Pin;
use steward_shared::codec::{self, CodecError};
use steward_shared::frame::{ToBridge, ToHub};
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::log::{Header, Records};

use super::content::records;
use super::vector::{frame, hex, unhex};

/// What became of the bytes: why they were refused, or that they were not.
type Judge = Box<dyn Fn(&[u8]) -> &'static str>;

/// Bytes that must be refused.
pub(super) struct Refused {
    pub(super) name: &'static str,
    kind: &'static str,
    note: &'static str,
    bytes: Vec<u8>,
    pub(super) reason: &'static str,
    judge: Judge,
}

impl Refused {
    /// Bytes that are refused for this reason; they have a name, a kind and a note.
    fn new(
        (name, kind, note): (&'static str, &'static str, &'static str),
        bytes: Vec<u8>,
        reason: &'static str,
        judge: Judge,
    ) -> Self {
        Self {
            name,
            kind,
            note,
            bytes,
            reason,
            judge,
        }
    }

    /// The vector as its file holds it.
    pub(super) fn shown(&self) -> Value {
        json!({
            "name": self.name, "kind": self.kind, "note": self.note,
            "hex": hex(&self.bytes), "refused": self.reason,
        })
    }

    /// What becomes of the bytes in a file.
    pub(super) fn judged(&self, shown: &Value) -> Result<&'static str> {
        Ok((self.judge)(&unhex(
            shown["hex"].as_str().unwrap_or_default(),
        )?))
    }
}

const ACCEPTED: &str = "accepted";
const MALFORMED: &str = "malformed";
const NOT_CANONICAL: &str = "not_canonical";
const NOT_SIGNED: &str = "not_signed";
const TOO_LARGE: &str = "too_large";

const fn reason(error: CodecError) -> &'static str {
    match error {
        CodecError::Malformed => MALFORMED,
        CodecError::NotCanonical => NOT_CANONICAL,
        CodecError::TooLarge { .. } => TOO_LARGE,
    }
}

/// A judge of bytes that are the encoding of this type, or are not.
macro_rules! codec {
    ($type:ty) => {
        Box::new(|bytes: &[u8]| {
            codec::decode::<$type>(bytes, FRAME_BYTES_MAX).map_or_else(reason, |_| ACCEPTED)
        }) as Judge
    };
}

/// Everything that must be refused.
pub(super) fn vectors(pin: Pin) -> Result<Vec<Refused>> {
    let mut all = encodings();
    all.extend(frames()?);
    all.extend(signatures::vectors()?);
    all.extend(logs()?);
    all.extend(enrolment::tokens(pin)?);
    all.extend(enrolment::requests(pin)?);
    Ok(all)
}

/// The reader of each kind of primitive.
fn judge(kind: &str) -> Judge {
    match kind {
        "bool" => codec!(bool),
        "list<string>" => codec!(Vec<String>),
        "map<string,string>" => codec!(BTreeMap<String, String>),
        "option<string>" => codec!(Option<String>),
        "string" => codec!(String),
        "u16" => codec!(u16),
        "u32" => codec!(u32),
        _ => codec!(u64),
    }
}

/// A name, a kind, a note, the bytes, and why they are refused.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [u8],
    &'static str,
);

const NINE: [u8; 9] = [253, 1, 0, 0, 0, 0, 0, 0, 0];
const LIE: [u8; 10] = [253, 255, 255, 255, 255, 255, 255, 255, 255, 65];

const INTEGERS: [Case; 10] = [
    (
        "u64-overlong-3",
        "u64",
        "7 in three bytes",
        &[251, 7, 0],
        NOT_CANONICAL,
    ),
    (
        "u64-overlong-5",
        "u64",
        "65535 in five bytes",
        &[252, 255, 255, 0, 0],
        NOT_CANONICAL,
    ),
    (
        "u64-overlong-9",
        "u64",
        "1 in nine bytes",
        &NINE,
        NOT_CANONICAL,
    ),
    (
        "u64-mark-254",
        "u64",
        "the mark of 128 bits, which are not used",
        &[254; 17],
        MALFORMED,
    ),
    (
        "u64-mark-255",
        "u64",
        "a mark without meaning",
        &[255; 9],
        MALFORMED,
    ),
    (
        "u16-too-wide",
        "u16",
        "a mark for more than 16 bits",
        &[252, 1, 0, 1, 0],
        MALFORMED,
    ),
    (
        "u32-too-wide",
        "u32",
        "a mark for more than 32 bits",
        &NINE,
        MALFORMED,
    ),
    ("u64-cut", "u64", "two of three bytes", &[251, 7], MALFORMED),
    (
        "u64-trailing",
        "u64",
        "a byte after the value",
        &[7, 0],
        MALFORMED,
    ),
    ("nothing", "u64", "no byte", &[], MALFORMED),
];

const OTHERS: [Case; 7] = [
    ("bool-2", "bool", "", &[2], MALFORMED),
    ("option-2", "option<string>", "", &[2, 0], MALFORMED),
    ("string-not-utf8", "string", "", &[2, 0xc3, 0x28], MALFORMED),
    (
        "string-lies",
        "string",
        "more bytes announced than there are",
        &LIE,
        MALFORMED,
    ),
    (
        "list-lies",
        "list<string>",
        "",
        &[252, 255, 255, 255, 255],
        MALFORMED,
    ),
    (
        "map-descending",
        "map<string,string>",
        "",
        &[2, 1, 98, 0, 1, 97, 0],
        NOT_CANONICAL,
    ),
    (
        "map-twice",
        "map<string,string>",
        "",
        &[2, 1, 97, 0, 1, 97, 0],
        NOT_CANONICAL,
    ),
];

fn encodings() -> Vec<Refused> {
    let refused = |(name, kind, note, bytes, reason): Case| {
        Refused::new((name, kind, note), bytes.to_vec(), reason, judge(kind))
    };
    INTEGERS.into_iter().chain(OTHERS).map(refused).collect()
}

fn frames() -> Result<Vec<Refused>> {
    let long = (u32::try_from(FRAME_BYTES_MAX)? + 1).to_le_bytes().to_vec();
    let three = frame(&[&[251, 7, 0, 0][..], &[0; 32]].concat())?;
    let to_bridge = |name, note, bytes, reason| {
        Refused::new(
            (name, "to_bridge", note),
            bytes,
            reason,
            Box::new(judge_to_bridge),
        )
    };
    let to_hub = |name, note, bytes, reason| {
        Refused::new(
            (name, "to_hub", note),
            bytes,
            reason,
            Box::new(judge_to_hub),
        )
    };
    Ok(vec![
        to_bridge(
            "frame-too-large",
            "refused at its length, unread",
            long,
            TOO_LARGE,
        ),
        to_bridge("frame-empty", "", frame(&[])?, MALFORMED),
        to_bridge(
            "to-bridge-unknown",
            "there is no frame 8",
            frame(&[8])?,
            MALFORMED,
        ),
        to_bridge(
            "to-bridge-overlong",
            "its number takes three bytes",
            three,
            NOT_CANONICAL,
        ),
        to_hub(
            "to-hub-unknown",
            "there is no frame 5",
            frame(&[5])?,
            MALFORMED,
        ),
        to_hub(
            "to-hub-trailing",
            "a greeting and one byte",
            frame(&[0, 1, 49, 0])?,
            MALFORMED,
        ),
    ])
}

fn judge_to_bridge(bytes: &[u8]) -> &'static str {
    unframed(bytes).map_or_else(|error| error, |inner| (codec!(ToBridge))(inner))
}

fn judge_to_hub(bytes: &[u8]) -> &'static str {
    unframed(bytes).map_or_else(|error| error, |inner| (codec!(ToHub))(inner))
}

/// As a reader of frames does: the length is judged before anything else is read.
fn unframed(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(MALFORMED)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| TOO_LARGE)?;
    if length > FRAME_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    if length == rest.len() {
        Ok(rest)
    } else {
        Err(MALFORMED)
    }
}

fn logs() -> Result<Vec<Refused>> {
    let (header, content) = records()?.remove(0);
    let good = [&header.encode()[..], &content].concat();
    let long = Header {
        length: 65_537,
        ..header
    }
    .encode()
    .to_vec();
    let judge: fn(&[u8]) -> &'static str = |bytes| {
        let mut records = Records::default();
        records.push(bytes);
        records.next_record().map_or(MALFORMED, |_| ACCEPTED)
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let case =
        |name, note, bytes| Refused::new((name, "record", note), bytes, MALFORMED, Box::new(judge));
    Ok(vec![
        case("record-empty", "a length of 0", with(0, 0)),
        case("record-too-long", "a length of 65537", long),
        case("record-of-no-stream", "stream 3", with(6, 3)),
        case(
            "record-reserved",
            "a reserved byte that is not 0",
            with(7, 1),
        ),
    ])
}
