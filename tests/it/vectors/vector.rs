//! A vector: bytes, the fields that they encode, and how to read them back.
//!
//! Used by the modules that make vectors; `mod.rs` compares them with the files.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::sign::{Payload, Signed, Verifier, pae};

/// Whether these bytes are read as what was written.
pub(super) type Read = Box<dyn Fn(&[u8]) -> Result<bool>>;

/// One vector.
pub(super) struct Vector {
    pub(super) name: String,
    kind: &'static str,
    note: &'static str,
    bytes: Vec<u8>,
    more: Map<String, Value>,
    read: Read,
}

impl Vector {
    /// A vector of these bytes, whose layout the document calls `kind`.
    pub(super) fn new(
        name: impl Into<String>,
        kind: &'static str,
        note: &'static str,
        bytes: Vec<u8>,
        read: Read,
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            note,
            bytes,
            more: Map::new(),
            read,
        }
    }

    /// The same with one thing more to show.
    pub(super) fn with(mut self, key: &str, value: Value) -> Self {
        self.more.insert(key.to_owned(), value);
        self
    }

    /// The vector as its file holds it.
    pub(super) fn shown(&self) -> Value {
        let mut all = Map::new();
        all.insert("name".to_owned(), json!(self.name));
        all.insert("kind".to_owned(), json!(self.kind));
        all.insert("note".to_owned(), json!(self.note));
        all.insert("hex".to_owned(), json!(hex(&self.bytes)));
        all.extend(self.more.clone());
        Value::Object(all)
    }

    /// Reads the bytes of a file back; whether they are what was written.
    pub(super) fn is_read_from(&self, shown: &Value) -> Result<bool> {
        let text = shown["hex"].as_str().context("a vector has no hex")?;
        (self.read)(&unhex(text)?)
    }
}

/// A vector of a value in the one encoding.
macro_rules! encoded {
    ($name:expr, $kind:expr, $note:expr, $type:ty, $value:expr) => {{
        let value: $type = $value;
        let bytes = steward_shared::codec::encode(&value, steward_shared::limits::FRAME_BYTES_MAX)?;
        let fields = $crate::vectors::vector::fields(serde_json::to_value(&value)?);
        let read = move |bytes: &[u8]| {
            let limit = steward_shared::limits::FRAME_BYTES_MAX;
            Ok(steward_shared::codec::decode::<$type>(bytes, limit)? == value)
        };
        $crate::vectors::vector::Vector::new($name, $kind, $note, bytes, Box::new(read))
            .with("fields", fields)
    }};
}

/// A vector of a frame as it stands on a stream: its length before it.
macro_rules! framed {
    ($name:expr, $kind:expr, $note:expr, $type:ty, $value:expr, $fields:expr) => {{
        let value: $type = $value;
        let limit = steward_shared::limits::FRAME_BYTES_MAX;
        let bytes = $crate::vectors::vector::frame(&steward_shared::codec::encode(&value, limit)?)?;
        let read = move |bytes: &[u8]| {
            let inner = $crate::vectors::vector::unframe(bytes)?;
            Ok(steward_shared::codec::decode::<$type>(inner, limit)? == value)
        };
        $crate::vectors::vector::Vector::new($name, $kind, $note, bytes, Box::new(read))
            .with("fields", $crate::vectors::vector::fields($fields))
    }};
}

pub(super) use {encoded, framed};

/// A vector of an envelope: what was signed, the signature, and what both are.
pub(super) fn envelope<T>(
    name: &str,
    kind: &'static str,
    note: &'static str,
    content: T,
    signed: &Signed<T>,
    verifier: Verifier,
) -> Result<Vector>
where
    T: Payload + PartialEq + 'static,
{
    let bytes = steward_shared::codec::encode(signed, FRAME_BYTES_MAX)?;
    let shown = envelope_fields(signed, &content)?;
    let read = move |bytes: &[u8]| {
        let read: Signed<T> = steward_shared::codec::decode(bytes, FRAME_BYTES_MAX)?;
        Ok(read.verify([&verifier])? == content)
    };
    Ok(Vector::new(name, kind, note, bytes, Box::new(read))
        .with("fields", shown)
        .with("payload_type", json!(T::TYPE))
        .with("body", json!(hex(signed.body())))
        .with("pae", json!(hex(&pae(T::TYPE, signed.body())))))
}

/// What an envelope shows of itself, with its body read.
pub(super) fn envelope_fields<T: Payload>(signed: &Signed<T>, content: &T) -> Result<Value> {
    let shown = serde_json::to_value(signed)?;
    Ok(json!({
        "key": shown["key"],
        "body": fields(serde_json::to_value(content)?),
        "signature": hex(signed.signature()),
    }))
}

/// Names of fields that hold bytes.
const BYTES: [&str; 16] = [
    "Piece",
    "ciphertext",
    "encapsulated",
    "public",
    "seal_to",
    "authority",
    "boot_id",
    "bytes",
    "certificate",
    "connection",
    "job_keys",
    "nonce",
    "receipt_key",
    "request",
    "secret",
    "trust_key",
];

/// Fields as they are shown: bytes are hexadecimal.
pub(super) fn fields(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| {
                let bytes = BYTES.contains(&key.as_str());
                (key, if bytes { hexed(value) } else { fields(value) })
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(fields).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn hexed(value: Value) -> Value {
    match value {
        Value::Array(items) if items.iter().all(Value::is_number) => {
            let bytes = items.iter().filter_map(Value::as_u64);
            Value::String(bytes.map(|byte| format!("{byte:02x}")).collect())
        }
        Value::Array(items) => items.into_iter().map(hexed).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            value
        }
    }
}

/// A frame as it stands on a stream.
pub(super) fn frame(encoded: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(encoded.len())?;
    Ok([&length.to_le_bytes()[..], encoded].concat())
}

/// The encoding in a frame that stands alone.
pub(super) fn unframe(bytes: &[u8]) -> Result<&[u8]> {
    let (length, rest) = bytes.split_first_chunk().context("a frame is cut short")?;
    let length = usize::try_from(u32::from_le_bytes(*length))?;
    anyhow::ensure!(length == rest.len(), "a frame's length is not its own");
    Ok(rest)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .bytes()
        .map(|digit| {
            char::from(digit)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        })
        .collect();
    let digits = digits.context("not hexadecimal")?;
    let (pairs, rest) = digits.as_chunks::<2>();
    anyhow::ensure!(rest.is_empty(), "half a byte is left over");
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
