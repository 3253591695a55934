//! OpenSSH's server on the loopback, with a host key and accounts of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::program::Program;
use super::wait::until;
use super::world::World;

/// A server.
#[derive(Debug)]
pub struct Sshd {
    world: World,
    program: Arc<Program>,
    folder: PathBuf,
    port: u16,
}

impl Sshd {
    /// Starts a server; `extra` is further lines of its configuration, which go before all others.
    ///
    /// # Errors
    /// When OpenSSH is not installed, or it does not start.
    pub async fn start(world: &World, name: &str, extra: &str) -> Result<Self> {
        Self::with_accounts(world, name, extra, &[]).await
    }

    /// Starts a server that has accounts with these passwords; the machine's own accounts are left alone.
    ///
    /// # Errors
    /// When OpenSSH is not installed, or it does not start.
    pub async fn with_accounts(
        world: &World,
        name: &str,
        extra: &str,
        accounts: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(world.path(name))?;
        Self::begin(world, name, extra, accounts).await
    }

    /// Starts a server on what is as good as a machine of its own: what is changed in its `/etc`, `/home`, `/opt`,
    /// `/root`, `/srv`, `/usr` and `/var` is in memory, seen by nobody else, and goes with it.
    /// `setup` is a script that makes it ready.
    ///
    /// # Errors
    /// When OpenSSH is not installed, the script fails, or the server does not start.
    pub async fn with_machine(world: &World, name: &str, extra: &str, setup: &str) -> Result<Self> {
        let folder = world.path(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(OWN), format!("{OVERLAYS}{setup}"))?;
        Self::begin(world, name, extra, &[]).await
    }

    async fn begin(
        world: &World,
        name: &str,
        extra: &str,
        accounts: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = world.path(name);
        // Its processes without privileges live there.
        fs::create_dir_all("/run/sshd")?;
        keygen(&folder.join("host_key"))?;
        fs::write(folder.join("authorized_keys"), "")?;
        // It cannot listen on a port that it chooses itself, and tell: a free one may be taken meanwhile.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = |file: &str| folder.join(file).display().to_string();
        let config = format!(
            "{extra}\nListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {}\nPermitRootLogin yes\nPasswordAuthentication no\nLogLevel VERBOSE\n",
            at("host_key"),
            at("authorized_keys"),
        );
        fs::write(folder.join("sshd_config"), config)?;
        etc(&folder, accounts)?;
        let program = world.start(name, &mut serving(&folder))?;
        let sshd = Self {
            world: world.clone(),
            program,
            folder,
            port,
        };
        sshd.listens().await?;
        Ok(sshd)
    }

    async fn listens(&self) -> Result<()> {
        until("sshd listens", async || {
            ensure!(self.program.ended().is_none(), "{}", self.log());
            Ok(self.log().contains("Server listening on").then_some(()))
        })
        .await
    }

    /// Where it listens on the loopback.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its host key, as targets have it.
    ///
    /// # Errors
    /// When the file is not there.
    pub fn host_key(&self) -> Result<String> {
        public(&self.folder.join("host_key"))
    }

    /// A file of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Gives an account another password.
    ///
    /// # Errors
    /// When `chpasswd` does not take it.
    pub fn set_password(&self, account: &str, password: &str) -> Result<()> {
        set_passwords(&self.folder, &format!("{account}:{password}\n"))
    }

    /// Runs a shell's command as root on its machine.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn inside(&self, command: &str) -> Result<Output> {
        let mut entered = Command::new("nsenter");
        entered
            .arg(format!("--mount={}", self.mount()))
            .args(["--", "/bin/sh", "-c", command]);
        Ok(entered.output()?)
    }

    /// Its mounts, as `nsenter` takes them.
    pub(super) fn mount(&self) -> String {
        format!("/proc/{}/ns/mnt", self.program.pid())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.program.stderr()
    }

    /// Makes a key that lets its holder in as any account; the file of its private half.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn key(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        keygen(&path)?;
        let known = self.folder.join("authorized_keys");
        let all = fs::read_to_string(&known)? + &public(&path)? + "\n";
        fs::write(known, all)?;
        Ok(path)
    }

    /// Makes it a server with another host key on the same port.
    ///
    /// # Errors
    /// When it does not start again.
    pub async fn change_host_key(&mut self) -> Result<()> {
        self.program.stop().await?;
        let key = self.folder.join("host_key");
        fs::remove_file(&key)?;
        keygen(&key)?;
        let mut command = serving(&self.folder);
        self.program = self.world.start("sshd-changed", &mut command)?;
        self.listens().await
    }
}

/// The server in a mount namespace of its own, where `/etc` is the folder's.
fn serving(folder: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$1/etc\" /etc && { [ ! -e \"$1/$2\" ] || sh \"$1/$2\" \"$1\"; } && \
                  exec /usr/sbin/sshd -D -e -f \"$1/sshd_config\"";
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder)
        .arg(OWN);
    command
}

/// The script in a server's folder that makes the rest of its machine its own.
const OWN: &str = "own.sh";

/// Lays memory over folders of the machine; tells programs that systemd, if it runs here, does not.
const OVERLAYS: &str = "\
set -eu
mkdir -p \"$1/own\"
mount -t tmpfs -o mode=0755 tmpfs \"$1/own\"
for folder in home opt root srv usr var; do
  mkdir \"$1/own/$folder\" \"$1/own/$folder.work\"
  chmod --reference=\"/$folder\" \"$1/own/$folder\"
  mount -t overlay -o \"lowerdir=/$folder,upperdir=$1/own/$folder,workdir=$1/own/$folder.work\" overlay \"/$folder\"
done
if [ -d /run/systemd/system ]; then
  mount -t tmpfs tmpfs /run/systemd
fi
PATH=$PATH:/usr/sbin:/sbin
";

/// A copy of the machine's `/etc` with these accounts.
fn etc(folder: &Path, accounts: &[(&str, &str)]) -> Result<()> {
    let etc = folder.join("etc");
    let copied = Command::new("cp")
        .arg("-a")
        .arg("/etc")
        .arg(&etc)
        .output()?;
    ensure!(copied.status.success(), "{copied:?}");
    // No more of PAM than passwords: what else a machine has there may not work where tests run.
    let pam =
        "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n";
    fs::write(etc.join("pam.d/sshd"), pam)?;
    // An account that is locked is let in by no key.
    let shadow = fs::read_to_string(etc.join("shadow"))?;
    let unlocked = shadow
        .lines()
        .map(|line| match line.split(':').collect::<Vec<_>>()[..] {
            ["root", _, ref rest @ ..] => format!("root:*:{}\n", rest.join(":")),
            _ => format!("{line}\n"),
        });
    fs::write(etc.join("shadow"), unlocked.collect::<String>())?;
    let append = |name: &str, line: String| {
        let path = etc.join(name);
        fs::write(&path, fs::read_to_string(&path)? + &line + "\n")
    };
    let mut passwords = String::new();
    for (number, (name, password)) in accounts.iter().enumerate() {
        let id = 20_000 + number;
        append("passwd", format!("{name}:x:{id}:{id}::/tmp:/bin/sh"))?;
        append("group", format!("{name}:x:{id}:"))?;
        append("shadow", format!("{name}:*:20000:0:99999:7:::"))?;
        passwords += &format!("{name}:{password}\n");
    }
    set_passwords(folder, &passwords)
}

/// Sets passwords as `chpasswd` reads them, in the folder's `/etc`.
fn set_passwords(folder: &Path, passwords: &str) -> Result<()> {
    let list = folder.join("passwords");
    fs::write(&list, passwords)?;
    let script = "mount --bind \"$1\" /etc && exec chpasswd";
    let set = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder.join("etc"))
        .stdin(fs::File::open(&list)?)
        .output()?;
    ensure!(set.status.success(), "{set:?}");
    Ok(fs::remove_file(list)?)
}

fn keygen(path: &Path) -> Result<()> {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(path)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(())
}

/// The public half of a key, its algorithm and its base64.
fn public(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path.with_extension("pub"))?;
    let mut words = text.split_ascii_whitespace();
    let (algorithm, key) = (words.next(), words.next());
    let (algorithm, key) = algorithm.zip(key).context("no public key")?;
    Ok(format!("{algorithm} {key}"))
}
