//! Pages of memory that are never written to swap, because there are secrets on them.
//!
//! To the system a page is locked or is not, however often that was asked for: here it is counted, and a page is let
//! go with the last secret on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use region::LockGuard;

/// Whether the program wants it; others, such as a client, have no secrets of anybody else's.
static WANTED: AtomicBool = AtomicBool::new(false);

/// The pages with secrets on them, by their numbers.
static PAGES: Mutex<BTreeMap<usize, Page>> = Mutex::new(BTreeMap::new());

struct Page {
    secrets: usize,
    /// None where the system does not allow it.
    _lock: Option<LockGuard>,
}

/// Locks the pages of secrets from now on.
pub fn lock_secrets() {
    WANTED.store(true, Ordering::Relaxed);
}

/// The pages that some bytes are on, locked as long as this is there. The bytes must be longer.
#[derive(Debug)]
pub struct Locked {
    first: usize,
    last: usize,
}

impl Locked {
    /// None where nobody has asked for it, and where there are no bytes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || !WANTED.load(Ordering::Relaxed) {
            return None;
        }
        Some(Self::pages(bytes))
    }

    fn pages(bytes: &[u8]) -> Self {
        let (size, begin) = (region::page::size(), bytes.as_ptr());
        let (first, last) = (begin.addr() / size, (begin.addr() + bytes.len() - 1) / size);
        let mut pages = pages();
        for number in first..=last {
            let page = pages.entry(number).or_insert_with(|| Page {
                secrets: 0,
                _lock: region::lock(begin.with_addr(number * size), size).ok(),
            });
            page.secrets += 1;
        }
        drop(pages);
        Self { first, last }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut pages = pages();
        for number in self.first..=self.last {
            let Some(page) = pages.get_mut(&number) else {
                continue;
            };
            page.secrets -= 1;
            if page.secrets == 0 {
                pages.remove(&number);
            }
        }
    }
}

fn pages() -> MutexGuard<'static, BTreeMap<usize, Page>> {
    PAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many secrets are on the page of these bytes, and whether it is locked.
    fn known(bytes: &[u8]) -> Option<(usize, bool)> {
        let number = bytes.as_ptr().addr() / region::page::size();
        pages()
            .get(&number)
            .map(|page| (page.secrets, page._lock.is_some()))
    }

    #[test]
    fn page_is_let_go_with_the_last_secret_on_it() {
        let size = region::page::size();
        let all = vec![7_u8; 4 * size];
        let begin = size - all.as_ptr().addr() % size;
        let (page, next) = (&all[begin..begin + size], &all[begin + size..]);
        let one = Locked::pages(&page[..10]);
        let other = Locked::pages(&page[size - 10..]);
        let across = Locked::pages(&all[begin + size - 1..begin + size + 1]);
        assert_eq!(
            (known(page), known(next)),
            (Some((3, true)), Some((1, true)))
        );
        drop((one, across));
        assert_eq!((known(page), known(next)), (Some((1, true)), None));
        drop(other);
        assert_eq!(known(page), None);
    }
}
