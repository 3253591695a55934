//! JSON of a request's body: a constant text with places for values, which can never become more than a value there.

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::request::Fault;
use super::secret::Secrets;
use super::value::{Value, Values};
use super::word::{self, Piece, RenderError, Word};
use crate::limits::{HTTP_BODY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::secret::Secret;

/// A part of a text of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JsonPiece {
    /// A value that stands by itself: a number, `true` or `false`.
    Bare(String),
    /// The text between.
    Constant(String),
    /// A value within a string.
    Inside(String),
}

impl JsonPiece {
    /// The name whose value stands here.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Bare(name) | Self::Inside(name) => Some(name),
            Self::Constant(_) => None,
        }
    }

    /// The piece with a name that has a value as that value.
    pub(super) fn filled(&self, values: &Values) -> Self {
        let text = match self {
            Self::Constant(_) => None,
            Self::Bare(name) => values.get(name).map(ToString::to_string),
            Self::Inside(name) => values.get(name).map(|value| inside(&value.to_string())),
        };
        text.map_or_else(|| self.clone(), Self::Constant)
    }
}

/// The text with its values, secrets among them.
pub(super) fn rendered(
    pieces: &[JsonPiece],
    values: &Values,
    secrets: &Secrets,
) -> Result<Secret, Fault> {
    let mut parts: Vec<Secret> = Vec::new();
    for piece in pieces {
        parts.push(match piece {
            JsonPiece::Constant(text) => Secret::new(text.as_bytes().to_vec()),
            JsonPiece::Bare(name) => bare(name, values).map_err(|why| Fault::named(name, &why))?,
            JsonPiece::Inside(name) => {
                let word = Word {
                    pieces: vec![Piece::Name(name.clone())],
                };
                let value = word.render_input(values, secrets);
                let value = value.map_err(|why| Fault::named(name, &why))?;
                let text = std::str::from_utf8(value.expose())
                    .map_err(|_| Fault::named(name, "the value is not UTF-8, and JSON is"))?;
                Secret::from(inside(text))
            }
        });
    }
    let parts: Vec<&[u8]> = parts.iter().map(Secret::expose).collect();
    let whole = Secret::new(parts.concat());
    if whole.expose().len() > HTTP_BODY_BYTES_MAX {
        return Err(Fault::nowhere(format!(
            "the body has more than {HTTP_BODY_BYTES_MAX} bytes"
        )));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(whole.expose()) {
        Ok(_) => Ok(whole),
        Err(_) => Err(Fault::nowhere("the body is not JSON".to_owned())),
    }
}

fn bare(name: &str, values: &Values) -> Result<Secret, String> {
    let text = match values.get(name) {
        None => {
            let missing = RenderError::Missing {
                name: name.to_owned(),
            };
            return Err(missing.to_string());
        }
        Some(Value::Boolean(value)) => value.to_string(),
        Some(Value::Integer(value)) => value.to_string(),
        Some(Value::Text(text)) => {
            if text.len() > VALUE_BYTES_MAX || !super::quantity::is_decimal(text) {
                return Err("the value is not a number, and stands by itself".to_owned());
            }
            text.clone()
        }
    };
    Ok(Secret::from(text))
}

/// A text as it stands between the quotes of a string.
fn inside(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let inner = quoted
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

/// `json` of a step, as its file has it.
#[derive(Debug)]
pub(super) enum JsonDraft {
    Constant(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
    Text(String),
}

impl JsonDraft {
    /// Its pieces; `is_bare` says of which names a value stands by itself where nothing is beside it.
    pub(super) fn pieces(&self, is_bare: &impl Fn(&str) -> bool) -> Result<Vec<JsonPiece>, String> {
        let mut pieces = Vec::new();
        self.write(&mut pieces, is_bare)?;
        Ok(pieces)
    }

    fn write(
        &self,
        pieces: &mut Vec<JsonPiece>,
        is_bare: &impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        match self {
            Self::Constant(text) => push(pieces, text),
            Self::List(list) => {
                push(pieces, "[");
                for (at, one) in list.iter().enumerate() {
                    push(pieces, if at == 0 { "" } else { "," });
                    one.write(pieces, is_bare)?;
                }
                push(pieces, "]");
            }
            Self::Object(entries) => {
                push(pieces, "{");
                for (at, (key, one)) in entries.iter().enumerate() {
                    if entries.iter().take(at).any(|(before, _)| before == key) {
                        return Err("a key of the JSON is given twice".to_owned());
                    }
                    if super::steps::placeholder(key).is_some() {
                        return Err("the keys of JSON are constant".to_owned());
                    }
                    push(pieces, if at == 0 { "" } else { "," });
                    push(pieces, &format!("\"{}\":", inside(key)));
                    one.write(pieces, is_bare)?;
                }
                push(pieces, "}");
            }
            Self::Text(source) => string(source, pieces, is_bare)?,
        }
        Ok(())
    }
}

fn string(
    source: &str,
    pieces: &mut Vec<JsonPiece>,
    is_bare: &impl Fn(&str) -> bool,
) -> Result<(), String> {
    let word = word::text(source).map_err(|why| why.to_string())?;
    if let [Piece::Name(name)] = word.pieces.as_slice()
        && is_bare(name)
    {
        pieces.push(JsonPiece::Bare(name.clone()));
        return Ok(());
    }
    push(pieces, "\"");
    for piece in &word.pieces {
        match piece {
            Piece::Text(text) => push(pieces, &inside(text)),
            Piece::Name(name) => pieces.push(JsonPiece::Inside(name.clone())),
        }
    }
    push(pieces, "\"");
    Ok(())
}

/// Adds constant text; pieces of text that meet are one.
pub(super) fn push(pieces: &mut Vec<JsonPiece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(JsonPiece::Constant(before)) => before.push_str(text),
        Some(JsonPiece::Bare(_) | JsonPiece::Inside(_)) | None => {
            pieces.push(JsonPiece::Constant(text.to_owned()));
        }
    }
}

impl<'de> Deserialize<'de> for JsonDraft {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = JsonDraft;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonDraft, E> {
        Ok(JsonDraft::Constant(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonDraft, E> {
        Ok(JsonDraft::Constant(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonDraft, E> {
        Ok(JsonDraft::Constant(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<JsonDraft, E> {
        let number = serde_json::Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom("JSON has no such number"))?;
        Ok(JsonDraft::Constant(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<JsonDraft, E> {
        Ok(JsonDraft::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<JsonDraft, E> {
        Ok(JsonDraft::Constant("null".to_owned()))
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<JsonDraft, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonDraft, D::Error> {
        JsonDraft::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<JsonDraft, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = list.next_element()? {
            all.push(one);
        }
        Ok(JsonDraft::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonDraft, A::Error> {
        let mut all = Vec::new();
        while let Some((key, one)) = map.next_entry::<JsonDraft, JsonDraft>()? {
            let JsonDraft::Text(key) = key else {
                return Err(A::Error::custom("a key of JSON is a text: quote it"));
            };
            all.push((key, one));
        }
        Ok(JsonDraft::Object(all))
    }
}
