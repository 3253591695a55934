//! The yardstick: OpenSSH's client over one kept connection (ControlMaster) to OpenSSH's server.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use steward_tests::{World, until};

/// A server, and the master connection to it.
#[derive(Debug)]
pub(crate) struct Ssh {
    folder: PathBuf,
    port: u16,
    user: String,
}

impl Ssh {
    /// Starts both.
    pub(crate) async fn start(world: &World) -> Result<Self> {
        let folder = world.path("ssh");
        fs::create_dir(&folder)?;
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key))
                .status()
                .context("ssh-keygen is missing: install openssh-client and openssh-server")?;
            ensure!(made.success(), "ssh-keygen failed");
        }
        fs::copy(folder.join("user.pub"), folder.join("authorized_keys"))?;
        fs::create_dir_all("/run/sshd")?;
        fs::set_permissions("/run/sshd", Permissions::from_mode(0o755))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = folder.display();
        // A shell that believes itself nested reads no profile: the yardstick must be honest.
        fs::write(
            folder.join("sshd_config"),
            format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized_keys\n\
                 PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nMaxSessions 128\n\
                 MaxStartups 128\nPrintMotd no\nSetEnv SHLVL=5\n"
            ),
        )?;
        let mut server = Command::new("/usr/sbin/sshd");
        server
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"));
        world.start("sshd", &mut server)?;
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?.context("no user")?;
        let ssh = Self {
            folder,
            port,
            user: user.name,
        };
        until("sshd answers", async || {
            Ok(ssh.command(&["true"]).status()?.success().then_some(()))
        })
        .await?;
        let mut master = ssh.command(&[]);
        master.args(["-N", "-M", "-o", "ControlPersist=no"]);
        world.start("ssh-master", &mut master)?;
        until("the master connection is there", async || {
            Ok(ssh.socket().exists().then_some(()))
        })
        .await?;
        Ok(ssh)
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("control")
    }

    /// `ssh` to the server, over the master connection where there is one.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        command
            .args(["-F", "none", "-p", &self.port.to_string(), "-i"])
            .arg(self.folder.join("user"))
            .args(["-o", &option("ControlPath", &self.socket())])
            .args(["-o", "StrictHostKeyChecking=no"])
            .args([
                "-o",
                &option("UserKnownHostsFile", &self.folder.join("known")),
            ])
            .args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            .arg(format!("{}@127.0.0.1", self.user))
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// So many commands one after another; how long each took.
    pub(crate) fn times(&self, count: usize, command: &str) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = Instant::now();
            let status = self.command(&[command]).stdout(Stdio::null()).status()?;
            ensure!(status.success(), "ssh {command} failed");
            times.push(begun.elapsed());
        }
        Ok(times)
    }

    /// So many commands, a number of them at once; how long all took.
    pub(crate) fn together(&self, count: usize, at_once: usize, command: &str) -> Result<Duration> {
        let begun = Instant::now();
        let left = std::sync::atomic::AtomicUsize::new(count);
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                use std::sync::atomic::Ordering::Relaxed;
                while left
                    .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let status = self.command(&[command]).stdout(Stdio::null()).status()?;
                    ensure!(status.success(), "ssh {command} failed");
                }
                Ok(())
            };
            let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a worker panicked"))??;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(begun.elapsed())
    }
}
