//! What stands for secrets in a rehearsal: values that are made up, filled in like real ones and never shown.

use steward_shared::secret::Secret;
use steward_shared::template::{Manifest, Piece, Secrets, Values, Word};

/// The made-up secrets of a template, and the values of one recording.
#[derive(Debug)]
pub(crate) struct Blanks {
    /// Every name that may stand in a placeholder, but for secrets.
    pub names: Values,
    /// The made-up secrets.
    pub secrets: Secrets,
    made_up: Vec<String>,
}

impl Blanks {
    /// Those of a template.
    pub(crate) fn of(manifest: &Manifest, names: Values) -> Self {
        let mut secrets = Secrets::default();
        for name in manifest.secret_names() {
            secrets.add(name, &account(name), Secret::from(value(name)));
        }
        Self {
            names,
            secrets,
            made_up: manifest.secret_names().map(str::to_owned).collect(),
        }
    }

    /// A text of a recording, its placeholders filled in.
    ///
    /// # Errors
    /// Which placeholder means nothing here.
    pub(crate) fn fill(&self, text: &str) -> Result<Vec<u8>, String> {
        let rendered = word(text)?.render_input(&self.names, &self.secrets);
        let filled = rendered.map_err(|why| why.to_string())?;
        Ok(filled.expose().to_vec())
    }

    /// Bytes as people may see them: a secret is `«secret»`, and the account that it is for `«account»`.
    pub(crate) fn shown(&self, bytes: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        for name in &self.made_up {
            text = text
                .replace(&value(name), "«secret»")
                .replace(&account(name), "«account»");
        }
        text
    }
}

/// Nothing in a template is like these by chance.
fn value(name: &str) -> String {
    format!("made-up-7d1f-secret-{name}.")
}

fn account(name: &str) -> String {
    format!("made-up-7d1f-account-{name}.")
}

/// A text with placeholders, read as the language reads them; nothing else in it means anything.
fn word(text: &str) -> Result<Word, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else {
            return Err("a placeholder has no end: }} is missing".to_owned());
        };
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Name(name.trim().to_owned()));
        rest = behind;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(Word { pieces })
}
