//! Debian's telnetd on the loopback, whose sessions are on a machine of their own.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Result;

use super::program;
use super::sshd::Sshd;

/// A server: who listens, and one program for each connection, as inetd has it.
#[derive(Debug)]
pub struct Telnetd {
    port: u16,
    inner: Arc<Inner>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    sessions: Mutex<Vec<Child>>,
    ended: AtomicBool,
}

/// What its machine needs to let accounts in by their passwords.
pub const TELNET_MACHINE: &str = "\
printf '%s\\n' 'auth required pam_unix.so' 'account required pam_unix.so' 'session required pam_permit.so' \
  >/etc/pam.d/login
";

impl Telnetd {
    /// Starts one on the machine of this server.
    ///
    /// # Errors
    /// When telnetd is not there (`tests/run` fetches it), or there is no port.
    pub fn start(machine: &Sshd) -> Result<Self> {
        let binary = program::tool("telnetd/usr/sbin/telnetd")?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let inner = Arc::new(Inner {
            sessions: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let (own, mount) = (Arc::clone(&inner), machine.mount());
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.ended.load(Ordering::Relaxed) {
                    return;
                }
                // A session that cannot begin is a connection that is closed.
                if let Ok(child) = stream.and_then(|stream| session(&binary, &mount, stream)) {
                    own.sessions
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(child);
                }
            }
        });
        Ok(Self {
            port,
            inner,
            listening: Some(listening),
        })
    }

    /// Where it listens on the loopback.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How many sessions are not over.
    pub fn sessions(&self) -> usize {
        let mut sessions = (self.inner.sessions.lock()).unwrap_or_else(PoisonError::into_inner);
        sessions.retain_mut(|child| child.try_wait().is_ok_and(|ended| ended.is_none()));
        sessions.len()
    }
}

impl Drop for Telnetd {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::Relaxed);
        // Wakes who listens.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(listening) = self.listening.take() {
            listening.join().ok();
        }
        let mut sessions = (self.inner.sessions.lock()).unwrap_or_else(PoisonError::into_inner);
        for mut child in sessions.drain(..) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn session(binary: &Path, mount: &str, stream: TcpStream) -> std::io::Result<Child> {
    let output = OwnedFd::from(stream.try_clone()?);
    Command::new("nsenter")
        .arg(format!("--mount={mount}"))
        .arg("--")
        .arg(binary)
        .stdin(OwnedFd::from(stream))
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
}
