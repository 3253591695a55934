//! What an exit record tells of besides the end, as far as there may be so much of it.

use steward_shared::frame::ReceiptEvent;
use steward_shared::job::{Found, FoundFile};
use steward_shared::limits::{
    HOST_KEYS_MAX, NAME_CHARS_MAX, RESULTS_BYTES_MAX, SAVED_MAX, STEPS_MAX,
};
use steward_shared::template::{Value, Values, host_key};

/// All of it; nothing where nothing was found.
pub(super) fn found(event: &ReceiptEvent) -> Option<Found> {
    let found = told(event)?;
    Some(Found {
        host_keys: host_keys(event),
        files: files(event),
        results: results(&found.results),
    })
}

/// The host keys, as far as they are some.
pub(super) fn host_keys(event: &ReceiptEvent) -> Vec<String> {
    let keys = told(event).into_iter().flat_map(|found| &found.host_keys);
    let keys = keys.filter_map(|key| host_key(key).ok());
    keys.take(HOST_KEYS_MAX).collect()
}

/// The files, one of each step at most.
pub(super) fn files(event: &ReceiptEvent) -> Vec<FoundFile> {
    let files = told(event).into_iter().flat_map(|found| &found.files);
    files.take(STEPS_MAX).copied().collect()
}

fn told(event: &ReceiptEvent) -> Option<&Found> {
    match event {
        ReceiptEvent::Exited(exit) => exit.found.as_deref(),
        ReceiptEvent::Accepted
        | ReceiptEvent::NotStarted { .. }
        | ReceiptEvent::Refused(_)
        | ReceiptEvent::StartRequest { .. }
        | ReceiptEvent::Started => None,
    }
}

/// Whether a template could have saved this: what it says is text, and nothing that hides in it.
fn is_plain(name: &str, value: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    name.len() <= NAME_CHARS_MAX && name.bytes().all(is_name) && value.chars().all(is_text)
}

fn results(results: &Values) -> Values {
    let mut left = RESULTS_BYTES_MAX;
    let fits = |(name, value): &(&String, &Value)| {
        let bytes = name.len() + value.to_string().len();
        let fits = is_plain(name, &value.to_string()) && bytes <= left;
        left -= if fits { bytes } else { 0 };
        fits
    };
    let fitting = results.iter().filter(fits).take(SAVED_MAX);
    fitting
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridge_that_tells_too_much_is_heard_as_far_as_it_may() {
        let text = |bytes: usize| Value::Text("x".repeat(bytes));
        let many: Values = (0..100).map(|n| (format!("v{n:03}"), text(1))).collect();
        assert_eq!(results(&many).len(), SAVED_MAX);
        let large: Values = [
            ("a".to_owned(), text(RESULTS_BYTES_MAX)),
            ("b".to_owned(), text(RESULTS_BYTES_MAX - 1)),
            ("c".to_owned(), text(0)),
            ("n".repeat(NAME_CHARS_MAX + 1), text(0)),
            ("A\nb".to_owned(), text(0)),
            ("d".to_owned(), Value::Text("\u{1b}[2J".to_owned())),
        ]
        .into();
        let kept: Vec<_> = results(&large).into_keys().collect();
        assert_eq!(kept, ["b"]);
    }
}
