//! Documents that were parsed before: `runs`, `documents` and `dispatch` need the same few again and again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::MEMO_DOCUMENTS;

/// The last few texts that were parsed, and what they are; the text itself is the key, so nothing goes stale.
pub(super) struct Memo<T> {
    known: Mutex<VecDeque<(String, Arc<T>)>>,
}

impl<T> Memo<T> {
    pub(super) const fn new() -> Self {
        Self {
            known: Mutex::new(VecDeque::new()),
        }
    }

    /// What this text is; parses it when that is not known.
    ///
    /// # Errors
    /// Whatever `parse` returns; that is not remembered.
    pub(super) fn of<E>(
        &self,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = lock()
            .iter()
            .find(|(known, _)| known == text)
            .map(|(_, value)| Arc::clone(value));
        if let Some(value) = found {
            return Ok(value);
        }
        let value = Arc::new(parse(text)?);
        let mut known = lock();
        known.truncate(MEMO_DOCUMENTS - 1);
        known.push_front((text.to_owned(), Arc::clone(&value)));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn same_text_is_parsed_once_and_another_is_not_taken_for_it() {
        let memo = Memo::new();
        let parsed = Cell::new(0);
        let parse = |text: &str| {
            parsed.set(parsed.get() + 1);
            text.parse::<u32>()
        };
        for _ in 0..3 {
            assert_eq!(*memo.of("1", parse).unwrap(), 1);
            assert_eq!(*memo.of("2", parse).unwrap(), 2);
            assert!(memo.of("x", parse).is_err());
        }
        assert_eq!(parsed.get(), 2 + 3);
        for number in 0..u32::try_from(MEMO_DOCUMENTS).unwrap() * 2 {
            assert_eq!(*memo.of(&number.to_string(), parse).unwrap(), number);
        }
        assert!(memo.known.lock().unwrap().len() <= MEMO_DOCUMENTS);
    }
}
