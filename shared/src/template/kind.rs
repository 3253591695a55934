//! The types of inputs: what each accepts.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::files::{ARTIFACT_GRAMMAR, artifact};
use super::quantity::{DURATION_GRAMMAR, duration_ms, is_decimal};
use super::value::Value;

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// `true` or `false`.
    Boolean,
    /// One of the values that the template lists.
    Choice,
    /// A duration such as `90s`, passed on as written.
    Duration,
    /// An artifact of the project, by its SHA-256.
    File,
    /// A DNS host name.
    Hostname,
    /// A word of letters, digits and `_`.
    Identifier,
    /// A whole number of 64 bits.
    Integer,
    /// An IPv4 or IPv6 address.
    Ip,
    /// Text of several lines.
    Lines,
    /// A decimal number, passed on as written.
    Number,
    /// The name of a software package.
    Package,
    /// An absolute path without `..`.
    Path,
    /// A TCP or UDP port.
    Port,
    /// The name of a system service.
    Service,
    /// One line of text.
    Text,
    /// The name of a local user.
    Username,
}

impl InputKind {
    /// Every kind, in the order of their names.
    pub const ALL: [Self; 16] = [
        Self::Boolean,
        Self::Choice,
        Self::Duration,
        Self::File,
        Self::Hostname,
        Self::Identifier,
        Self::Integer,
        Self::Ip,
        Self::Lines,
        Self::Number,
        Self::Package,
        Self::Path,
        Self::Port,
        Self::Service,
        Self::Text,
        Self::Username,
    ];

    /// The word for this kind in a template.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Choice => "choice",
            Self::Duration => "duration",
            Self::File => "file",
            Self::Hostname => "hostname",
            Self::Identifier => "identifier",
            Self::Integer => "integer",
            Self::Ip => "ip",
            Self::Lines => "lines",
            Self::Number => "number",
            Self::Package => "package",
            Self::Path => "path",
            Self::Port => "port",
            Self::Service => "service",
            Self::Text => "text",
            Self::Username => "username",
        }
    }

    /// What a value of this kind looks like, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Choice => "one of the listed values",
            Self::Duration => DURATION_GRAMMAR,
            Self::File => ARTIFACT_GRAMMAR,
            Self::Hostname => "a host name: letters, digits and \"-\", parts joined by \".\"",
            Self::Identifier => "an identifier: letters, digits and \"_\", not first a digit",
            Self::Integer => "a whole number without leading zeros",
            Self::Ip => "an IPv4 or IPv6 address",
            Self::Lines => "text",
            Self::Number => "a decimal number such as 12 or -0.5",
            Self::Package => "a package name: letters, digits, \"+\", \".\", \"_\" and \"-\"",
            Self::Path => "an absolute path without \"..\"",
            Self::Port => "a port from 1 to 65535",
            Self::Service => {
                "a service name: letters, digits, \":\", \"_\", \".\", \"@\" and \"-\""
            }
            Self::Text => "one line of text",
            Self::Username => "a user name: letters, digits, \"_\", \".\" and \"-\"",
        }
    }

    /// Whether values may begin with `-`. Where one stands as an argument, [`super::argv`] still
    /// demands a `--` before it unless it is a number.
    pub(super) const fn allows_dash(self) -> bool {
        matches!(
            self,
            Self::Integer | Self::Lines | Self::Number | Self::Text
        )
    }

    /// Whether values are numbers, which no command takes for an option by accident.
    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Number)
    }

    /// Whether `min` and `max` apply.
    pub(super) const fn has_range(self) -> bool {
        matches!(
            self,
            Self::Duration | Self::Integer | Self::Number | Self::Port
        )
    }

    /// Whether `min_length`, `max_length` and `pattern` apply.
    pub(super) const fn has_length(self) -> bool {
        match self {
            Self::Hostname
            | Self::Identifier
            | Self::Lines
            | Self::Package
            | Self::Path
            | Self::Service
            | Self::Text
            | Self::Username => true,
            Self::Boolean
            | Self::Choice
            | Self::Duration
            | Self::File
            | Self::Integer
            | Self::Ip
            | Self::Number
            | Self::Port => false,
        }
    }

    /// The value that a text stands for, if it is of this kind.
    pub(super) fn read(self, text: &str) -> Option<Value> {
        let is_kind = match self {
            Self::Boolean => return text.parse().ok().map(Value::Boolean),
            Self::Integer => return integer(text).map(Value::Integer),
            Self::Ip => {
                return text
                    .parse::<IpAddr>()
                    .ok()
                    .map(|ip| Value::Text(ip.to_string()));
            }
            Self::Port => {
                return integer(text)
                    .filter(|port| (1..=65535).contains(port))
                    .map(Value::Integer);
            }
            Self::Choice | Self::Lines | Self::Text => true,
            Self::Duration => duration_ms(text).is_some(),
            Self::File => artifact(text).is_some(),
            Self::Hostname => is_hostname(text),
            Self::Identifier => is_made_of(text, 63, "_", "_") && !starts_with_digit(text),
            Self::Number => text.len() <= NUMBER_CHARS_MAX && is_decimal(text),
            Self::Package => is_made_of(text, 128, "", "+._-"),
            Self::Path => is_path(text),
            Self::Service => is_made_of(text, 255, "", ":_.@-"),
            Self::Username => is_made_of(text, 64, "_", "_.-") && !starts_with_digit(text),
        };
        is_kind.then(|| Value::Text(text.to_owned()))
    }
}

fn integer(text: &str) -> Option<i64> {
    let is_plain = is_decimal(text) && !text.contains('.');
    text.parse().ok().filter(|_| is_plain)
}

fn is_hostname(text: &str) -> bool {
    text.len() <= 253
        && text
            .split('.')
            .all(|label| is_made_of(label, 63, "", "-") && !label.ends_with('-'))
}

pub(super) fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= PATH_BYTES_MAX
        && text.split('/').all(|part| part != "..")
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// ASCII letters, digits and `others`; first a letter, a digit or one of `first`.
fn is_made_of(text: &str, length_max: usize, first: &str, others: &str) -> bool {
    let begins_well = |c: char| c.is_ascii_alphanumeric() || first.contains(c);
    text.len() <= length_max
        && text.starts_with(begins_well)
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

const NUMBER_CHARS_MAX: usize = 64;

const PATH_BYTES_MAX: usize = 4095;
