//! Doing something as another user of the machine: on a thread, for privileges are a thread's. Called by
//! the tests of who may do what; needs root.

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{
    CapabilitySet, Gid, Uid, capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// Does the work with the rights of the user of this number, whose group has the same.
///
/// # Errors
/// When this process is not root, or the work fails.
pub fn as_user<T: Send>(number: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    ensure!(nix::unistd::geteuid().is_root(), "needs root");
    let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
    let become_user = move || -> Result<()> {
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        let left = capabilities(None)?.effective;
        ensure!(left == CapabilitySet::empty(), "{left:?} are left");
        Ok(())
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_user().with_context(|| format!("cannot become user {number}"))?;
            work()
        });
        thread
            .join()
            .map_err(|_| anyhow!("the thread of user {number} has panicked"))?
    })
}
