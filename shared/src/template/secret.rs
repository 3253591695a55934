//! Secrets in the standard input of a command: put in by the bridge, when the permit has brought them.
//!
//! They stand nowhere else: arguments and variables are seen by everybody on a machine.

use std::collections::BTreeMap;

use super::name::account_of;
use super::value::{Value, Values};
use super::word::{ARGUMENT_BYTES_MAX, Piece, RenderError, Word};
use crate::secret::Secret;

/// The secrets of one attempt, by the names that its steps call them.
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<String, (String, Secret)>);

impl Secrets {
    /// Adds one, with the account that it is for.
    pub fn add(&mut self, name: &str, account: &str, value: Secret) {
        self.0.insert(name.to_owned(), (account.to_owned(), value));
    }

    /// Every value, for who masks them.
    pub fn values(&self) -> impl Iterator<Item = &Secret> {
        self.0.values().map(|(_, value)| value)
    }

    /// What stands for this name; `None` where it is no secret's.
    pub(super) fn find(&self, name: &str) -> Option<&[u8]> {
        match account_of(name) {
            Some(secret) => self.0.get(secret).map(|(account, _)| account.as_bytes()),
            None => self.0.get(name).map(|(_, value)| value.expose()),
        }
    }
}

impl Word {
    /// The word as standard input, its secrets filled in.
    ///
    /// # Errors
    /// [`RenderError`]; it says nothing of a secret but its name.
    pub fn render_input(&self, values: &Values, secrets: &Secrets) -> Result<Secret, RenderError> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let shown: Vec<Option<String>> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Name(name) if secrets.find(name).is_none() => plain(name, values).map(Some),
                Piece::Name(_) | Piece::Text(_) => Ok(None),
            })
            .collect::<Result<_, _>>()?;
        let alone = self.stands_alone();
        for (piece, shown) in self.pieces.iter().zip(&shown) {
            if let (Piece::Name(name), None) = (piece, shown)
                && (!alone || account_of(name).is_some())
                && secrets.find(name).is_some_and(has_control)
            {
                return Err(RenderError::Control { name: name.clone() });
            }
            parts.push(match (piece, shown) {
                (_, Some(shown)) => shown.as_bytes(),
                (Piece::Text(text), None) => text.as_bytes(),
                (Piece::Name(name), None) => secrets.find(name).unwrap_or_default(),
            });
        }
        let length = parts.iter().map(|part| part.len()).sum();
        if length > ARGUMENT_BYTES_MAX {
            return Err(RenderError::TooLong);
        }
        // Reserved before: what grows leaves copies behind.
        let mut bytes = Vec::with_capacity(length);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Ok(Secret::new(bytes))
    }

    /// Whether its one placeholder is all there is, but for blanks and line breaks around it.
    fn stands_alone(&self) -> bool {
        let names = self.names().count();
        let blank = |piece: &Piece| match piece {
            Piece::Text(text) => text.trim().is_empty(),
            Piece::Name(_) => true,
        };
        names == 1 && self.pieces.iter().all(blank)
    }

    /// Whether one of these secrets, or its account, stands in the word.
    pub fn has_secret<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) -> bool {
        let of = |name| account_of(name).unwrap_or(name);
        let named: Vec<_> = self.names().map(of).collect();
        secrets.into_iter().any(|secret| named.contains(&secret))
    }
}

/// A line break beside other text could begin a line of its own.
fn has_control(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_control)
}

fn plain(name: &str, values: &Values) -> Result<String, RenderError> {
    match values.get(name) {
        Some(Value::Text(text)) if text.contains('\0') => Err(RenderError::Nul {
            name: name.to_owned(),
        }),
        Some(value) => Ok(value.to_string()),
        None => Err(RenderError::Missing {
            name: name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::word::text;
    use super::*;

    #[test]
    fn secrets_and_values_stand_side_by_side() {
        let mut secrets = Secrets::default();
        secrets.add("new", "deploy", Secret::from("s {{ user }}".to_owned()));
        let values = Values::from([("user".to_owned(), Value::Text("ada".to_owned()))]);
        let render = |source: &str| text(source).unwrap().render_input(&values, &secrets);
        let shown = |source: &str| String::from_utf8(render(source).unwrap().expose().to_vec());
        assert_eq!(
            shown("{{ new.account }}:{{ new }}|{{ user }}\n").unwrap(),
            "deploy:s {{ user }}|ada\n"
        );
        assert!(matches!(
            render("{{ old }}"),
            Err(RenderError::Missing { .. })
        ));
        let mut secrets = Secrets::default();
        secrets.add("new", "deploy", Secret::from("s".to_owned()));
        secrets.add("key", "a\nroot", Secret::from("one\ntwo\n".to_owned()));
        let render = |source: &str| text(source).unwrap().render_input(&values, &secrets);
        let alone = render("{{ key }}\n").unwrap();
        assert_eq!(alone.expose(), b"one\ntwo\n\n");
        for source in ["{{ key.account }}", "ada:{{ key }}\n", "{{ key }}{{ new }}"] {
            let refused = render(source);
            assert!(
                matches!(refused, Err(RenderError::Control { .. })),
                "{source}"
            );
        }
        assert!(text("{{ new.account }}").unwrap().has_secret(["new"]));
        assert!(!text("{{ newer }}").unwrap().has_secret(["new"]));
    }
}
