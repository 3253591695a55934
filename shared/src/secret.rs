//! A value that is never shown.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::pages::Locked;

/// Bytes that must not appear in a log, an error, a process list or a core dump.
///
/// There is no `Display`, no `Serialize`, and `Debug` says only that there is one.
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    locked: Option<Locked>,
}

impl Secret {
    /// Takes the bytes over; they are overwritten when the secret is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        let bytes = Zeroizing::new(bytes);
        let locked = Locked::of(&bytes);
        Self { bytes, locked }
    }

    /// The bytes, for the one place that uses them.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// The secret as text, for the one place that uses it; `None` when it is not UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self::new(self.bytes.to_vec())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
        // While the memory is still there.
        self.locked = None;
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
