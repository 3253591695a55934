//! Tags such as `[#USERNAME#]`: what stands for each in a template of Steward.

use std::collections::{BTreeMap, BTreeSet};

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text as it is.
    Text(String),
    /// A tag, by its name.
    Tag(String),
}

/// What a tag becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A name that is always there.
    BuiltIn(&'static str),
    /// An input, and its declaration in YAML.
    Input(String, String),
    /// A secret.
    Secret(&'static str),
    /// Nothing.
    Nothing,
}

/// The parts of a text. What is no tag is text.
pub(super) fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[#") {
        plain.push_str(before);
        let tag = after.split_once("#]").filter(|(name, _)| is_tag(name));
        if let Some((name, after)) = tag {
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Tag(name.to_owned()));
            rest = after;
        } else {
            plain.push_str("[#");
            rest = after;
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Text(plain));
    }
    parts
}

fn is_tag(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.len() <= 60 && name.chars().all(plain)
}

/// What a tag becomes, and what is to be said of it.
pub(super) fn meaning(tag: &str) -> (Meaning, Option<&'static str>) {
    let input = |name: &str, declared: &str| Meaning::Input(name.to_owned(), declared.to_owned());
    match tag.to_ascii_uppercase().as_str() {
        "USERNAME" => (input("account", "{ type: username }"), None),
        "AUTH_USER" => (input("login_account", "{ type: username }"), None),
        "AUTH_DOMAIN" | "DOMAIN" => (input("domain", "{ type: hostname }"), None),
        "IP" | "CONNECT_IP" => (Meaning::BuiltIn("target.address"), None),
        "HOSTNAME" => (
            Meaning::BuiltIn("target.name"),
            Some("is the name that the target has in Steward"),
        ),
        "NEW_PASSWORD" => (Meaning::Secret("new"), None),
        "CURRENT_PASSWORD" => (Meaning::Secret("old"), None),
        "AUTH_PASSWORD" => (Meaning::Secret("login"), None),
        "COE_SENHA" => (
            Meaning::Secret("login"),
            Some("is documented nowhere and taken for the password of the login: make sure"),
        ),
        "TOTP_TOKEN" => (Meaning::Nothing, Some("has nothing that stands for it")),
        other => {
            let name = other.to_ascii_lowercase();
            // The name of an input begins with a letter.
            let name = if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                name
            } else {
                format!("tag_{}", name.trim_start_matches('_'))
            };
            (
                input(&name, &format!("{{ type: text, pattern: \"{PATTERN}\" }}")),
                Some(
                    "is a text of letters, digits and _ . @ : / + - now: change its pattern if it must be more",
                ),
            )
        }
    }
}

/// What the tags of a template have become.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Inputs, with their declarations.
    pub(super) inputs: BTreeMap<String, String>,
    /// Secrets.
    pub(super) secrets: BTreeSet<&'static str>,
}

/// What a value may be made of whose type nobody has declared; nothing that a shell or a device takes for more.
const PATTERN: &str = "[A-Za-z0-9_.@:/+-]*";
