//! A value that is never shown.

use std::fmt;

use zeroize::Zeroizing;

/// Bytes that must not appear in a log, an error, a process list or a core dump.
///
/// There is no `Display`, no `Serialize`, and `Debug` says only that there is one.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; they are overwritten when the secret is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that uses them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text, for the one place that uses it; `None` when it is not UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_not_shown_by_debug() {
        let shown = format!("{:?}", Secret::from("hunter2".to_owned()));
        assert_eq!(shown, "Secret(…)");
    }
}
