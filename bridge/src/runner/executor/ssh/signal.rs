//! Signals as SSH names them (RFC 4254, 6.9).

use russh::Sig;

/// Linux's number of a signal that SSH names (RFC 4254, 6.9); 0 for one without.
pub(super) fn number(signal: &Sig) -> i32 {
    match signal {
        Sig::ABRT => 6,
        Sig::ALRM => 14,
        Sig::FPE => 8,
        Sig::HUP => 1,
        Sig::ILL => 4,
        Sig::INT => 2,
        Sig::KILL => 9,
        Sig::PIPE => 13,
        Sig::QUIT => 3,
        Sig::SEGV => 11,
        Sig::TERM => 15,
        Sig::USR1 => 10,
        Sig::Custom(_) => 0,
    }
}
