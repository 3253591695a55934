//! Secrets that must be found nowhere, and the search for them in every form in which they could be written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A secret of a test.
#[derive(Debug, Clone)]
pub struct Canary {
    text: String,
    forms: Vec<(String, Vec<u8>)>,
}

impl Canary {
    /// A secret with this text, long enough and strange enough not to come up by chance.
    ///
    /// # Panics
    /// When it is shorter than 12 bytes.
    #[must_use]
    pub fn new(text: &str) -> Self {
        assert!(text.len() >= 12, "too short to be looked for");
        let mut forms = vec![("raw".to_owned(), text.as_bytes().to_vec())];
        // Where it stands in what is encoded decides which letters it becomes; those that hold bits of what is
        // before or behind it are left out.
        for skip in 0..3 {
            let padded = [vec![b' '; skip], text.as_bytes().to_vec()].concat();
            for (name, engine) in [
                ("base64", &STANDARD_NO_PAD),
                ("base64url", &URL_SAFE_NO_PAD),
            ] {
                let encoded = engine.encode(&padded);
                let (from, to) = ((skip * 8).div_ceil(6), padded.len() * 8 / 6);
                let inner = encoded.get(from..to).unwrap_or(&encoded);
                forms.push((format!("{name} at {skip}"), inner.as_bytes().to_vec()));
            }
        }
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.push(("hex".to_owned(), hex.clone().into_bytes()));
        forms.push(("HEX".to_owned(), hex.to_uppercase().into_bytes()));
        let url: String = text
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        forms.push(("URL".to_owned(), url.into_bytes()));
        let json = serde_json::Value::from(text).to_string();
        let json = json.trim_matches('"').as_bytes().to_vec();
        forms.push(("JSON".to_owned(), json));
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        forms.push(("UTF-16".to_owned(), wide));
        let decimal: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
        forms.push((
            "a list of numbers".to_owned(),
            decimal.join(", ").into_bytes(),
        ));
        Self {
            text: text.to_owned(),
            forms,
        }
    }

    /// The secret.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every form of it that programs print.
    #[must_use]
    pub fn forms(&self) -> Vec<Vec<u8>> {
        let printed = self
            .forms
            .iter()
            .filter(|(name, _)| name != "a list of numbers");
        printed.map(|(_, form)| form.clone()).collect()
    }

    /// Makes sure that bytes do not hold it.
    ///
    /// # Errors
    /// Where it was found, and in which form.
    pub fn absent(&self, place: &str, bytes: &[u8]) -> Result<()> {
        for (name, form) in &self.forms {
            let found = bytes.windows(form.len()).position(|part| part == form);
            ensure!(
                found.is_none(),
                "a secret is in {place}, as {name}, at byte {found:?}"
            );
        }
        Ok(())
    }

    /// Makes sure that no file under these folders holds it, those apart that the test wrote it to; how many
    /// files and bytes were searched.
    ///
    /// # Errors
    /// Where it was found; [`anyhow::Error`] when a file cannot be read.
    pub fn absent_under(&self, folder: &Path, but: &[PathBuf]) -> Result<(usize, usize)> {
        let (mut folders, mut files, mut size) = (vec![folder.to_owned()], 0, 0);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
                let path = entry?.path();
                let kind = fs::symlink_metadata(&path)?.file_type();
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() && !but.contains(&path) {
                    let bytes = fs::read(&path)?;
                    self.absent(&path.display().to_string(), &bytes)?;
                    files += 1;
                    size += bytes.len();
                }
            }
        }
        Ok((files, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found() {
        let canary = Canary::new("Kanarienvogel \"7\"/x");
        let text = canary.text();
        for (place, engine) in [
            (0, &STANDARD_NO_PAD),
            (1, &STANDARD_NO_PAD),
            (2, &URL_SAFE_NO_PAD),
        ] {
            let around = format!("{}{text} and more", "x".repeat(place));
            let encoded = engine.encode(around);
            assert!(
                canary.absent("here", encoded.as_bytes()).is_err(),
                "{place}"
            );
        }
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [
            format!("a{text}b").into_bytes(),
            hex.into_bytes(),
            serde_json::json!({ "value": text })
                .to_string()
                .into_bytes(),
            b"Kanarienvogel%20%227%22%2Fx".to_vec(),
            wide,
        ] {
            assert!(canary.absent("here", &bytes).is_err(), "{bytes:?}");
        }
        assert!(canary.absent("here", b"Kanarienvogel 8").is_ok());
    }
}
