//! A panic is a bug in steward: told in the same shape as every other error. Called by `main`.

use std::io::Write;
use std::panic;
use std::process;

use uuid::Uuid;

use crate::error::Words;
use crate::exit::Exit;

/// Makes every panic end the process with the code for a bug.
pub(crate) fn report_panics() {
    panic::set_hook(Box::new(|info| {
        let words = Words {
            error: "a bug in steward".to_owned(),
            why: info.location().map(|at| format!("it gave up at {at}")),
            remedy: Some("report it with the ref; the run, if there is one, goes on".to_owned()),
            reference: Some(Uuid::new_v4().to_string()),
            ..Words::default()
        };
        // Nobody is left to tell if standard error is gone as well.
        drop(std::io::stderr().lock().write_all(words.text().as_bytes()));
        process::exit(i32::from(Exit::Bug.code()));
    }));
}
