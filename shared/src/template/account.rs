//! Credentials as people write them in files: which account, where it is, how its value is changed. Never the value.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::document::{TemplateError, read};
use super::draft::object_name;
use super::quantity::{DURATION_GRAMMAR, duration_ms};
use super::task::{TargetsDraft, TaskTargets, template_version};
use crate::limits::{ROTATION_PERIOD_MAX, ROTATION_PERIOD_MIN, SECRET_LENGTH};

/// A credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialDocument {
    /// Its name.
    pub name: String,
    /// How it is proven, a word.
    pub kind: String,
    /// The account's name on targets; an authority has none.
    pub account: Option<String>,
    /// For a certificate the authority that signs it.
    pub authority: Option<String>,
    /// Where the account is.
    pub targets: Option<TaskTargets>,
    /// The credential after whose change this one is changed too.
    pub parent: Option<String>,
    /// How its value is changed.
    pub rotation: Option<Rotation>,
}

/// How a credential's value is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The template that gives a target the new value.
    pub template: TemplateName,
    /// The credential that it signs in with; the changed one itself when absent.
    pub login: Option<String>,
    /// The credential that gives a target the new value where it takes none that is known.
    pub reconcile: Option<String>,
    /// The template that takes the old value away, once the new one is proven.
    pub finish: Option<TemplateName>,
    /// How old a value may be, in milliseconds; 0 is no such limit.
    pub every_ms: u64,
    /// Whether it is changed after each use.
    pub after_use: bool,
    /// How many characters a new password has.
    pub length: u32,
    /// Of which characters it is made.
    pub alphabet: Alphabet,
}

/// A template by name, and by version where it must not be a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateName {
    /// Its name.
    pub name: String,
    /// Its version; absent means the newest.
    pub version: Option<u32>,
}

/// The characters of a password that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// `A-Z`, `a-z` and `0-9`.
    LettersDigits,
    /// Those, and signs that no shell and no dialogue reads in a way of its own.
    LettersDigitsSigns,
}

impl Alphabet {
    /// Its characters.
    pub const fn characters(self) -> &'static [u8] {
        match self {
            Self::LettersDigits => {
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
            }
            Self::LettersDigitsSigns => {
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./:=@_"
            }
        }
    }
}

impl CredentialDocument {
    /// Reads a credential's YAML: one document.
    ///
    /// # Errors
    /// What is wrong with it, with its place.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        let draft: CredentialDraft = read(yaml)?;
        let named = |name: Option<Spanned<String>>| name.map(object_name).transpose();
        let targets = draft
            .targets
            .map(|targets| targets.value.targets(targets.referenced))
            .transpose()?;
        if let (Some(rotation), None) = (&draft.rotation, &targets) {
            let message = "a rotation needs targets: where the account is";
            return Err(TemplateError::at(rotation.referenced, message));
        }
        Ok(Self {
            name: object_name(draft.credential)?,
            kind: object_name(draft.kind)?,
            account: draft.account,
            authority: named(draft.authority)?,
            targets,
            parent: named(draft.parent)?,
            rotation: draft
                .rotation
                .map(|rotation| rotation.value.rotation())
                .transpose()?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialDraft {
    credential: Spanned<String>,
    kind: Spanned<String>,
    account: Option<String>,
    authority: Option<Spanned<String>>,
    targets: Option<Spanned<TargetsDraft>>,
    parent: Option<Spanned<String>>,
    rotation: Option<Spanned<RotationDraft>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationDraft {
    template: Spanned<String>,
    login: Option<Spanned<String>>,
    reconcile: Option<Spanned<String>>,
    finish: Option<Spanned<String>>,
    every: Option<Spanned<String>>,
    #[serde(default)]
    after_use: bool,
    length: Option<Spanned<u32>>,
    alphabet: Option<Spanned<String>>,
}

impl RotationDraft {
    fn rotation(self) -> Result<Rotation, TemplateError> {
        let named = |name: Option<Spanned<String>>| name.map(object_name).transpose();
        let length = match self.length {
            Some(length) if !SECRET_LENGTH.contains(&length.value) => {
                let (least, most) = (SECRET_LENGTH.start(), SECRET_LENGTH.end());
                let message = format!("a password that is made has {least} to {most} characters");
                return Err(TemplateError::at(length.referenced, message));
            }
            Some(length) => length.value,
            None => SECRET_LENGTH_DEFAULT,
        };
        Ok(Rotation {
            template: template(&self.template)?,
            login: named(self.login)?,
            reconcile: named(self.reconcile)?,
            finish: self.finish.as_ref().map(template).transpose()?,
            every_ms: self.every.as_ref().map_or(Ok(0), period)?,
            after_use: self.after_use,
            length,
            alphabet: self
                .alphabet
                .as_ref()
                .map_or(Ok(Alphabet::LettersDigits), alphabet)?,
        })
    }
}

fn template(text: &Spanned<String>) -> Result<TemplateName, TemplateError> {
    let (name, version) = template_version(text)?;
    Ok(TemplateName { name, version })
}

fn period(text: &Spanned<String>) -> Result<u64, TemplateError> {
    let ms =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    duration_ms(&text.value)
        .filter(|given| (ms(ROTATION_PERIOD_MIN)..=ms(ROTATION_PERIOD_MAX)).contains(given))
        .ok_or_else(|| {
            let message = format!(
                "every is {DURATION_GRAMMAR}, from {}s to {}d",
                ROTATION_PERIOD_MIN.as_secs(),
                ROTATION_PERIOD_MAX.as_secs() / 86_400
            );
            TemplateError::at(text.referenced, message)
        })
}

fn alphabet(text: &Spanned<String>) -> Result<Alphabet, TemplateError> {
    match text.value.as_str() {
        "letters-digits" => Ok(Alphabet::LettersDigits),
        "letters-digits-signs" => Ok(Alphabet::LettersDigitsSigns),
        _ => {
            let message = "an alphabet is letters-digits or letters-digits-signs";
            Err(TemplateError::at(text.referenced, message))
        }
    }
}

const SECRET_LENGTH_DEFAULT: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_arrives() {
        let yaml = "credential: deploy\nkind: password\naccount: deploy\ntargets: { names: [a] }\nparent: root\n\
                    rotation:\n  template: change-password@2\n  login: root\n  reconcile: other\n  finish: clean\n  \
                    every: 30d\n  after_use: true\n  length: 32\n  alphabet: letters-digits-signs\n";
        let credential = CredentialDocument::parse(yaml).unwrap();
        let rotation = credential.rotation.unwrap();
        assert_eq!(rotation.template.version, Some(2));
        assert_eq!(rotation.every_ms, 30 * 86_400_000);
        assert_eq!((rotation.length, rotation.after_use), (32, true));
        assert_eq!(rotation.alphabet, Alphabet::LettersDigitsSigns);
        assert_eq!(credential.parent.as_deref(), Some("root"));
        for (wrong, why) in [
            ("credential: a\nkind: password\nvalue: x\n", "value"),
            (
                "credential: a\nkind: password\nrotation: { template: t }\n",
                "targets",
            ),
            (
                "credential: a\nkind: password\ntargets: { names: [a] }\nrotation: { template: t, every: 1s }\n",
                "every",
            ),
            (
                "credential: a\nkind: password\ntargets: { names: [a] }\nrotation: { template: t, length: 5 }\n",
                "characters",
            ),
        ] {
            let error = CredentialDocument::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
