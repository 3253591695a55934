//! Named places where a test can kill, pause or fail a program: at each boundary of journal, database and
//! network.
//!
//! They exist in builds with debug assertions only; a release build has neither the code nor the names.
//! `STEWARD_FAILPOINT=name[:nth][=kill|pause|error]`, several separated by `;`, arms them: at the nth time
//! that it is reached (the first when no number is given), a point kills the program without warning (when
//! nothing else is said), stops it as SIGSTOP does, or fails. Armed by the programs' `main`, reached through
//! [`failpoint!`](crate::failpoint!), driven by the tests of faults.

/// A place where a test can make something happen. With a second argument, what the function returns as
/// its error when the point is armed to fail.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        {
            $crate::failpoint::reach($name);
        }
    };
    ($name:literal, $error:expr) => {
        #[cfg(debug_assertions)]
        if $crate::failpoint::reach($name) {
            return Err($error);
        }
    };
}

#[cfg(debug_assertions)]
mod armed;
#[cfg(debug_assertions)]
mod list;

#[cfg(debug_assertions)]
pub use armed::{ArmError, VARIABLE, arm, reach};
#[cfg(debug_assertions)]
pub use list::{Part, Point, listed, points};
