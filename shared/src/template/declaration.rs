//! Inputs as they stand in a template's file, and what must hold for them.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::character::shown;
use super::document::TemplateError;
use super::draft::{description, title};
use super::input::{Input, measure};
use super::kind::InputKind;
use super::name::{INPUT_GRAMMAR, is_input, suggestion};
use super::quantity::compare;
use super::task::pattern;

/// The keys of an input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputDraft {
    pub(super) r#type: Spanned<String>,
    pub(super) label: Option<Spanned<String>>,
    pub(super) help: Option<Spanned<String>>,
    pub(super) default: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) optional: bool,
    pub(super) min: Option<Spanned<String>>,
    pub(super) max: Option<Spanned<String>>,
    pub(super) min_length: Option<Spanned<u32>>,
    pub(super) max_length: Option<Spanned<u32>>,
    pub(super) pattern: Option<Spanned<String>>,
    pub(super) of: Option<Spanned<Vec<Spanned<String>>>>,
}

impl InputDraft {
    /// The input, or the first thing that is wrong with it.
    pub(super) fn input(self, name: Spanned<String>) -> Result<Input, TemplateError> {
        if !is_input(&name.value) {
            let message = format!("\"{}\": {INPUT_GRAMMAR}", shown(&name.value));
            return Err(TemplateError::at(name.referenced, message));
        }
        let kind = kind(&self.r#type)?;
        self.check_options(kind)?;
        let mut input = Input {
            name: name.value,
            kind,
            label: title(self.label)?,
            help: description(self.help)?,
            default: None,
            optional: self.optional,
            min: self
                .min
                .as_ref()
                .map(|text| bound(kind, text))
                .transpose()?,
            max: self
                .max
                .as_ref()
                .map(|text| bound(kind, text))
                .transpose()?,
            min_length: self.min_length.as_ref().map(|number| number.value),
            max_length: self.max_length.as_ref().map(|number| number.value),
            pattern: self.pattern.as_ref().map(pattern).transpose()?,
            of: choices(self.of)?,
        };
        if kind == InputKind::Choice && input.of.is_empty() {
            let message = "a choice lists its values: of: [first, second]";
            return Err(TemplateError::at(self.r#type.referenced, message));
        }
        if let (Some(min), Some(max)) = (&input.min, &input.max)
            && compare(min, max) == Ordering::Greater
        {
            let message = "min is more than max: no value would fit";
            return Err(TemplateError::at(self.r#type.referenced, message));
        }
        if input
            .min_length
            .zip(input.max_length)
            .is_some_and(|(min, max)| min > max)
        {
            let message = "min_length is more than max_length: no value would fit";
            return Err(TemplateError::at(self.r#type.referenced, message));
        }
        if let Some(default) = self.default {
            if self.optional {
                let message = "an input with a default is always given: leave out optional";
                return Err(TemplateError::at(default.referenced, message));
            }
            let given = serde_json::Value::String(default.value);
            let value = input.parse(&given).map_err(|error| {
                TemplateError::at(default.referenced, format!("default of {}", error.message))
            })?;
            input.default = Some(value);
        }
        Ok(input)
    }

    fn check_options(&self, kind: InputKind) -> Result<(), TemplateError> {
        let place = |number: &Spanned<u32>| number.referenced;
        let text_place = |text: &Spanned<String>| text.referenced;
        let options = [
            ("min", kind.has_range(), self.min.as_ref().map(text_place)),
            ("max", kind.has_range(), self.max.as_ref().map(text_place)),
            (
                "min_length",
                kind.has_length(),
                self.min_length.as_ref().map(place),
            ),
            (
                "max_length",
                kind.has_length(),
                self.max_length.as_ref().map(place),
            ),
            (
                "pattern",
                kind.has_length(),
                self.pattern.as_ref().map(text_place),
            ),
            (
                "of",
                kind == InputKind::Choice,
                self.of.as_ref().map(|list| list.referenced),
            ),
        ];
        for (option, fits, place) in options {
            if let (false, Some(place)) = (fits, place) {
                let message = format!("{option} does not apply to the type {}", kind.as_str());
                return Err(TemplateError::at(place, message));
            }
        }
        Ok(())
    }
}

fn kind(name: &Spanned<String>) -> Result<InputKind, TemplateError> {
    let all = InputKind::ALL;
    if let Some(kind) = all.iter().find(|kind| kind.as_str() == name.value) {
        return Ok(*kind);
    }
    let message = match name.value.as_str() {
        later @ ("account" | "file" | "secret" | "target" | "targets") => {
            format!("the type {later} is not supported by this version")
        }
        other => {
            let hint = suggestion(other, all.iter().map(|kind| kind.as_str()));
            format!("unknown type \"{}\"{hint}", shown(other))
        }
    };
    Err(TemplateError::at(name.referenced, message))
}

fn bound(kind: InputKind, text: &Spanned<String>) -> Result<String, TemplateError> {
    if kind.read(&text.value).is_none() {
        let message = format!("\"{}\" is not {}", shown(&text.value), kind.describe());
        return Err(TemplateError::at(text.referenced, message));
    }
    Ok(measure(kind, &text.value))
}

fn choices(list: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<String>, TemplateError> {
    let mut seen = BTreeSet::new();
    let mut choices = Vec::new();
    for choice in list.into_iter().flat_map(|list| list.value) {
        let text = choice.value;
        if text.is_empty() || text.starts_with('-') || text.contains(['\n', '\t']) {
            let message = "a choice is one line that does not begin with \"-\"";
            return Err(TemplateError::at(choice.referenced, message));
        }
        if choices.len() == CHOICES_MAX {
            let message = format!("more than {CHOICES_MAX} choices");
            return Err(TemplateError::at(choice.referenced, message));
        }
        if !seen.insert(text.clone()) {
            let message = format!("the choice \"{text}\" is given twice");
            return Err(TemplateError::at(choice.referenced, message));
        }
        choices.push(text);
    }
    Ok(choices)
}

const CHOICES_MAX: usize = 256;
