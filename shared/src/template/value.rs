//! The values of inputs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One value. There are no floats on the wire: a number that is not an integer is its decimal text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Everything else, in the spelling that is used as an argument.
    Text(String),
}

/// Values by the name of their input.
pub type Values = BTreeMap<String, Value>;

impl fmt::Display for Value {
    /// The value as it stands in an argument.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
        }
    }
}
