//! YAML documents: the rules that hold for every file of the language, and its errors.
//!
//! Read by the manifest, by tasks, and by [`parse_documents`] for files that hold several.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};
use serde_saphyr::{Location, MergeKeyPolicy, MessageFormatter, UserMessageFormatter};

use super::account::CredentialDocument;
use super::character::{is_hidden, shown};
use super::manifest::Manifest;
use super::name::suggestion;
use super::task::{SiteDocument, TargetDocument, Task};
use crate::limits::{DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX, TEMPLATE_BYTES_MAX};

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// `credential:`.
    Credential {
        /// What it says.
        credential: Box<CredentialDocument>,
        /// The document as it was written, comments included.
        source: String,
    },
    /// `site:`.
    Site(SiteDocument),
    /// `target:`.
    Target(Box<TargetDocument>),
    /// `task:`.
    Task {
        /// What it says.
        task: Box<Task>,
        /// The document as it was written, comments included.
        source: String,
    },
    /// `template:`.
    Template {
        /// What it says.
        manifest: Box<Manifest>,
        /// The document as it was written, comments included.
        source: String,
    },
}

impl Document {
    /// A document's text by itself: without the line of `---` above it, and with the end of its last line.
    pub fn bare(source: &str) -> String {
        let line = source.split_inclusive('\n').next().unwrap_or_default();
        let text = match line.strip_prefix("---") {
            Some(rest) if rest.trim().is_empty() => source.strip_prefix(line),
            // A comment on that line is the author's.
            Some(rest) if rest.trim_start() != rest && rest.trim_start().starts_with('#') => {
                source.strip_prefix("---").map(str::trim_start)
            }
            Some(_) | None => None,
        };
        let text = text.unwrap_or(source);
        let end = if text.ends_with('\n') { "" } else { "\n" };
        format!("{text}{end}")
    }
}

/// Reads a file of one or more documents that are separated by lines of `---`.
pub fn parse_documents(yaml: &str) -> Result<Vec<Document>, TemplateError> {
    if yaml.len() > DOCUMENTS_BYTES_MAX {
        return Err(TemplateError::nowhere(format!(
            "the file has over {DOCUMENTS_BYTES_MAX} bytes"
        )));
    }
    let parts = parts(yaml);
    if parts.len() > DOCUMENTS_MAX {
        let message = format!("the file has more than {DOCUMENTS_MAX} documents");
        return Err(TemplateError::nowhere(message));
    }
    let mut documents = Vec::new();
    for (line, source) in parts {
        documents.extend(document(source).map_err(|error| error.below(line))?);
    }
    Ok(documents)
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
}

impl std::error::Error for TemplateError {}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: ")?,
            (Some(line), None) => write!(f, "line {line}: ")?,
            (None, _) => {}
        }
        f.write_str(&self.message)
    }
}

impl TemplateError {
    pub(super) fn at(location: Location, message: impl Into<String>) -> Self {
        let number = |n: u64| u32::try_from(n).ok().filter(|n| *n > 0);
        Self {
            line: number(location.line()),
            column: number(location.column()),
            message: message.into(),
        }
    }

    fn nowhere(message: impl Into<String>) -> Self {
        Self {
            line: None,
            column: None,
            message: message.into(),
        }
    }

    fn on(span: Span, message: impl Into<String>) -> Self {
        Self {
            line: u32::try_from(span.start.line()).ok(),
            column: u32::try_from(span.start.col() + 1).ok(),
            message: message.into(),
        }
    }

    fn below(mut self, lines: usize) -> Self {
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        self.line = self.line.map(|line| line.saturating_add(lines));
        self
    }
}

/// Reads one document of which it is known what it is.
pub(super) fn read<T: DeserializeOwned>(yaml: &str) -> Result<T, TemplateError> {
    if scan(yaml)?.is_none() {
        return Err(TemplateError::nowhere("the document is empty"));
    }
    let options = serde_saphyr::options! {
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|error| told(&error))
}

fn document(source: &str) -> Result<Option<Document>, TemplateError> {
    let Some((key, span)) = scan(source)? else {
        return Ok(None);
    };
    Ok(Some(match key.as_str() {
        "credential" => Document::Credential {
            credential: Box::new(CredentialDocument::parse(source)?),
            source: source.to_owned(),
        },
        "site" => Document::Site(SiteDocument::parse(source)?),
        "target" => Document::Target(Box::new(TargetDocument::parse(source)?)),
        "task" => Document::Task {
            task: Box::new(Task::parse(source)?),
            source: source.to_owned(),
        },
        "template" => Document::Template {
            manifest: Box::new(Manifest::parse(source)?),
            source: source.to_owned(),
        },
        other => {
            let message = format!(
                "a document begins with what it is and its name, and \"{}\" is none of {}{}",
                shown(other),
                FIRST_KEYS.join(", "),
                suggestion(other, FIRST_KEYS)
            );
            return Err(TemplateError::on(span, message));
        }
    }))
}

/// Checks what every document must obey; answers with its first key, if it has any content.
///
/// Runs before anything is deserialised, so that anchors cannot multiply anything.
fn scan(yaml: &str) -> Result<Option<(String, Span)>, TemplateError> {
    if yaml.len() > TEMPLATE_BYTES_MAX {
        let message = format!("the document has over {TEMPLATE_BYTES_MAX} bytes");
        return Err(TemplateError::nowhere(message));
    }
    check_characters(yaml)?;
    let mut first_key = None;
    let mut depth = 0_usize;
    let mut events = 0_usize;
    let mut after_brace = false;
    for event in Parser::new_from_str(yaml) {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            TemplateError::on(Span::empty(*mark), shown(&error.info()))
        })?;
        events += 1;
        if events > EVENTS_MAX {
            return Err(TemplateError::on(span, "the document has too many parts"));
        }
        let is_brace = matches!(event, Event::MappingStart(StructureStyle::Flow, ..));
        if is_brace && after_brace {
            let message = "a value that begins with {{ must be quoted: \"{{ name }}\"";
            return Err(TemplateError::on(span, message));
        }
        after_brace = is_brace;
        if depth == 0 && matches!(event, Event::SequenceStart(..)) {
            return Err(TemplateError::on(span, "a document is a mapping of keys"));
        }
        check_event(&event, span)?;
        if matches!(event, Event::MappingStart(..) | Event::SequenceStart(..)) {
            depth += 1;
        } else if matches!(event, Event::MappingEnd | Event::SequenceEnd) {
            depth = depth.saturating_sub(1);
        } else if let (Event::Scalar(text, ..), None) = (&event, &first_key) {
            // Nothing but comments is one scalar that takes no place.
            if depth == 0 && span.is_empty() {
                return Ok(None);
            }
            if depth != 1 {
                return Err(TemplateError::on(span, "a document is a mapping of keys"));
            }
            first_key = Some((text.clone().into_owned(), span));
        }
        if depth > DEPTH_MAX {
            return Err(TemplateError::on(span, "the document is nested too deep"));
        }
    }
    Ok(first_key)
}

fn check_event(event: &Event<'_>, span: Span) -> Result<(), TemplateError> {
    if event.anchor_id().is_some() || event.is_alias() {
        return Err(TemplateError::on(
            span,
            "anchors and aliases are not part of the language",
        ));
    }
    if event.tag().is_some() {
        return Err(TemplateError::on(span, "tags are not part of the language"));
    }
    let Some((text, style)) = event.scalar() else {
        return Ok(());
    };
    if let Some(hidden) = text
        .chars()
        .find(|c| is_hidden(*c) && !matches!(c, '\n' | '\t'))
    {
        let message = format!(
            "the text contains the character {}",
            hidden.escape_unicode()
        );
        return Err(TemplateError::on(span, message));
    }
    let lower = text.to_ascii_lowercase();
    if style == ScalarStyle::Plain && ["on", "off", "yes", "no"].contains(&lower.as_str()) {
        let message = format!("\"{text}\" means true or false to other programs: quote it");
        return Err(TemplateError::on(span, message));
    }
    Ok(())
}

fn check_characters(yaml: &str) -> Result<(), TemplateError> {
    for (number, line) in (1..).zip(yaml.split('\n')) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if let Some((column, hidden)) = (1..)
            .zip(line.chars())
            .find(|(_, c)| is_hidden(*c) && *c != '\t')
        {
            return Err(TemplateError {
                line: Some(number),
                column: Some(column),
                message: format!("the hidden character {}", hidden.escape_unicode()),
            });
        }
    }
    Ok(())
}

/// The documents of a file, each with the number of lines above it.
fn parts(yaml: &str) -> Vec<(usize, &str)> {
    let is_marker = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.trim_start() != rest || rest.is_empty())
    };
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (number, line) in yaml.split_inclusive('\n').enumerate() {
        if is_marker(line) && offset > start {
            parts.extend(yaml.get(start..offset).map(|part| (start_line, part)));
            (start, start_line) = (offset, number);
        }
        offset += line.len();
    }
    parts.extend(yaml.get(start..).map(|part| (start_line, part)));
    parts
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library words its other errors itself"
)]
fn told(error: &serde_saphyr::Error) -> TemplateError {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let message = match error {
        serde_saphyr::Error::SerdeUnknownField {
            field, expected, ..
        } => format!(
            "unknown key \"{}\"{}",
            shown(field),
            suggestion(field, expected.iter().copied())
        ),
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            format!("the key \"{field}\" is missing")
        }
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            format!(
                "the key \"{}\" is given twice",
                shown(key.as_deref().unwrap_or_default())
            )
        }
        serde_saphyr::Error::NullIntoString { .. } => "a value is missing here".to_owned(),
        _ => shown(&UserMessageFormatter.format_message(error)),
    };
    TemplateError::at(location, message)
}

/// A mapping in the order of the file; its keys are unique.
#[derive(Debug)]
pub(super) struct Entries<T>(pub(super) Vec<(serde_saphyr::Spanned<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

/// What may be written as one text, or in full as a mapping.
#[derive(Debug)]
pub(super) enum Short<T> {
    Full(T),
    Text(String),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Short<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Short<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a mapping")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Short::Text(text.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<Self::Value, A::Error> {
                let full = serde::de::value::MapAccessDeserializer::new(map);
                T::deserialize(full).map(Short::Full)
            }
        }

        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

/// What may be written alone, or as a list.
#[derive(Debug)]
pub(super) enum Many<T> {
    List(Vec<serde_saphyr::Spanned<T>>),
    One(T),
}

impl<T> Many<T> {
    /// Each of them, and where it stands.
    pub(super) fn each(many: Option<serde_saphyr::Spanned<Self>>) -> Vec<(T, Location)> {
        let Some(many) = many else {
            return Vec::new();
        };
        match many.value {
            Self::One(one) => vec![(one, many.referenced)],
            Self::List(list) => {
                let each = list.into_iter();
                each.map(|one| (one.value, one.referenced)).collect()
            }
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Many<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one, or a list")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(serde::de::value::StrDeserializer::new(text)).map(Many::One)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<Self::Value, A::Error> {
                T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Many::One)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Self::Value, A::Error> {
                let mut each = Vec::new();
                while let Some(one) = list.next_element()? {
                    each.push(one);
                }
                Ok(Many::List(each))
            }
        }

        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

const FIRST_KEYS: [&str; 5] = ["credential", "site", "target", "task", "template"];

const EVENTS_MAX: usize = 20_000;

const DEPTH_MAX: usize = 16;
