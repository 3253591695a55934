//! A seeded source of changed messages: the same seed changes the same bytes in the same way.
//!
//! Called by `it/fuzz` and by the rogue peers in `it/rogue`.

/// Changes bytes, as far as a seed says.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

/// Bytes that mean something where a length, a mark or a choice stands.
const TELLING: [u8; 12] = [0, 1, 2, 7, 127, 128, 250, 251, 252, 253, 254, 255];

/// The longest message that is made.
const BYTES_MAX: usize = 4096;

impl Mutator {
    /// A source of changes.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number (splitmix64).
    pub const fn next_number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound; 0 when there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next_number() % bound).unwrap_or(0)
    }

    /// One of these.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }

    /// These bytes with one to four changes, some of them from another message.
    pub fn changed(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut out, other);
        }
        out.truncate(BYTES_MAX.max(bytes.len()));
        out
    }

    fn change(&mut self, out: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(out.len());
        let telling = TELLING.get(self.below(TELLING.len())).copied().unwrap_or(0);
        match self.below(9) {
            0 => self.with_byte(out, at, |byte, bit| byte ^ (1 << (bit % 8))),
            1 => self.with_byte(out, at, |_, random| random),
            2 => self.with_byte(out, at, |_, _| telling),
            3 => out.truncate(at),
            4 => {
                let from = self.below(other.len());
                let piece = other.get(from..).unwrap_or_default();
                let piece = piece.get(..1 + self.below(piece.len())).unwrap_or_default();
                out.splice(at..at, piece.iter().copied());
            }
            5 => {
                let end = out.len().min(at + 1 + self.below(16));
                out.drain(at.min(end)..end);
            }
            6 => {
                // A number that is longer than need be, or as large as can be.
                let wide = [[telling, 0xff, 0xff], [251, 7, 0], [252, 1, 0]];
                let wide = wide.get(self.below(3)).copied().unwrap_or_default();
                out.splice(at..at, wide);
            }
            7 => {
                let end = out.len().min(at + 1 + self.below(64));
                let piece = out.get(at..end).unwrap_or_default().to_vec();
                out.splice(at..at, piece);
            }
            _ => out.extend(std::iter::repeat_n(telling, 1 + self.below(32))),
        }
    }

    fn with_byte(&mut self, out: &mut [u8], at: usize, change: impl Fn(u8, u8) -> u8) {
        let [random, ..] = self.next_number().to_le_bytes();
        if let Some(byte) = out.get_mut(at) {
            *byte = change(*byte, random);
        }
    }
}
