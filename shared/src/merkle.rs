//! One hash for many, so that it can be shown that one of them is among them without all the others (RFC 9162, 2.1).

use crate::job::{Digest, Hasher};

/// The hash of these in their order, as the Merkle tree of RFC 9162 (2.1.1) has it: of none, SHA-256 of nothing.
pub fn root(entries: &[Digest]) -> Digest {
    match entries {
        [] => Digest::of(&[]),
        [one] => leaf(*one),
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node(root(left), root(right))
        }
    }
}

/// What shows that the entry at this index is among these: the audit path of RFC 9162 (2.1.3.1), lowest first. Nothing
/// where there is no such entry.
pub fn path(entries: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= entries.len() {
        return None;
    }
    if entries.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = entries.split_at(split(entries.len()));
    let (mut below, beside) = match index.checked_sub(left.len()) {
        None => (path(left, index)?, root(right)),
        Some(index) => (path(right, index)?, root(left)),
    };
    below.push(beside);
    Some(below)
}

/// The root that follows from one entry, its index among so many, and its path. Nothing where a path for these has
/// another length (RFC 9162, 2.1.3.2).
pub fn root_from(entry: Digest, (index, count): (u64, u64), path: &[Digest]) -> Option<Digest> {
    if index >= count {
        return None;
    }
    let (mut at, mut last) = (index, count - 1);
    let mut hash = leaf(entry);
    for beside in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            hash = node(*beside, hash);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            hash = node(hash, *beside);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some(hash)
}

/// The largest power of two below this; there are two entries or more.
const fn split(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

fn leaf(entry: Digest) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(&[0]);
    hasher.update(&entry.0);
    hasher.digest()
}

fn node(left: Digest, right: Digest) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(&[1]);
    hasher.update(&left.0);
    hasher.update(&right.0);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(count: usize) -> Vec<Digest> {
        (0..count).map(|at| Digest::of(&at.to_le_bytes())).collect()
    }

    #[test]
    fn nothing_and_one_are_what_the_rfc_says() {
        assert_eq!(
            root(&[]).to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let one = Digest([7; 32]);
        let mut bytes = vec![0];
        bytes.extend([7; 32]);
        assert_eq!(root(&[one]), Digest::of(&bytes));
        assert_eq!(split(2), 1);
        assert_eq!(split(3), 2);
        assert_eq!(split(4), 2);
        assert_eq!(split(5), 4);
    }

    /// Three entries by hand: the third stands beside the pair of the others.
    #[test]
    fn three_are_a_pair_and_one() {
        let all = entries(3);
        let pair = node(leaf(all[0]), leaf(all[1]));
        assert_eq!(root(&all), node(pair, leaf(all[2])));
        assert_eq!(path(&all, 2).unwrap(), [pair]);
        assert_eq!(path(&all, 0).unwrap(), [leaf(all[1]), leaf(all[2])]);
        assert_eq!(path(&all, 3), None);
    }

    proptest! {
        #[test]
        fn every_entry_is_shown_and_no_other(count in 1_usize..70, index in 0_usize..70, other in 0_usize..70) {
            let index = index % count;
            let all = entries(count);
            let path = path(&all, index).unwrap();
            let place = |at: usize, of: usize| (at as u64, of as u64);
            prop_assert_eq!(root_from(all[index], place(index, count), &path), Some(root(&all)));
            // Neither another entry, nor another place, nor another length.
            let other = other % count;
            if other != index {
                prop_assert_ne!(root_from(all[other], place(index, count), &path), Some(root(&all)));
                prop_assert_ne!(root_from(all[index], place(other, count), &path), Some(root(&all)));
            }
            let mut longer = path.clone();
            longer.push(Digest([0; 32]));
            prop_assert_ne!(root_from(all[index], place(index, count), &longer), Some(root(&all)));
            if let Some((_, shorter)) = path.split_last() {
                prop_assert_eq!(root_from(all[index], place(index, count), shorter), None);
            }
            prop_assert_eq!(root_from(all[index], place(count, count), &path), None);
        }
    }
}
