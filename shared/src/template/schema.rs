//! JSON Schema of inputs, for forms and for checks before anything is sent.
//!
//! It says less than [`Input::parse`], which decides.

use serde_json::{Map, Value as Json, json};

use super::input::Input;
use super::kind::InputKind;
use super::manifest::Manifest;
use super::value::Value;

impl Manifest {
    /// JSON Schema of the inputs; `x-order` is their order in a form, `x-type` an input's type.
    pub fn schema(&self) -> Json {
        let properties: Map<_, _> = self
            .inputs
            .iter()
            .map(|input| (input.name.clone(), property(input)))
            .collect();
        let is_needed = |input: &&Input| !input.optional && input.default.is_none();
        let needed: Vec<_> = self
            .inputs
            .iter()
            .filter(is_needed)
            .map(|one| &one.name)
            .collect();
        let order: Vec<_> = self.inputs.iter().map(|one| &one.name).collect();
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": needed,
            "additionalProperties": false,
            "x-order": order,
        })
    }
}

fn property(input: &Input) -> Json {
    let mut schema = Map::new();
    let mut set = |key: &str, value: Option<Json>| {
        if let Some(value) = value {
            schema.insert(key.to_owned(), value);
        }
    };
    let whole = |bound: &Option<String>| bound.as_ref()?.parse::<i64>().ok();
    let (kind, least, most) = match input.kind {
        InputKind::Boolean => ("boolean", None, None),
        InputKind::Integer => ("integer", whole(&input.min), whole(&input.max)),
        InputKind::Port => (
            "integer",
            whole(&input.min).or(Some(1)),
            whole(&input.max).or(Some(65535)),
        ),
        InputKind::Choice
        | InputKind::Duration
        | InputKind::File
        | InputKind::Hostname
        | InputKind::Identifier
        | InputKind::Ip
        | InputKind::Lines
        | InputKind::Number
        | InputKind::Package
        | InputKind::Path
        | InputKind::Service
        | InputKind::Text
        | InputKind::Username => ("string", None, None),
    };
    set("type", Some(json!(kind)));
    set("x-type", Some(json!(input.kind)));
    set("title", input.label.as_ref().map(|text| json!(text)));
    set("description", input.help.as_ref().map(|text| json!(text)));
    set("minimum", least.map(|number| json!(number)));
    set("maximum", most.map(|number| json!(number)));
    set("minLength", input.min_length.map(|number| json!(number)));
    set("maxLength", input.max_length.map(|number| json!(number)));
    set(
        "pattern",
        input
            .pattern
            .as_ref()
            .map(|one| json!(format!("^(?:{})$", one.as_str()))),
    );
    set("enum", (!input.of.is_empty()).then(|| json!(input.of)));
    let default = match &input.default {
        Some(Value::Boolean(value)) => Some(json!(value)),
        Some(Value::Integer(value)) => Some(json!(value)),
        Some(Value::Text(value)) => Some(json!(value)),
        None => None,
    };
    set("default", default);
    Json::Object(schema)
}
