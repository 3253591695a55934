//! PostgreSQL's server on the loopback, as a user of its own, with a log of every statement.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::program::Program;
use super::wait::until;
use super::world::World;

/// A server.
#[derive(Debug)]
pub struct Postgres {
    program: Arc<Program>,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes and starts a server.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or it does not start.
    pub async fn start(world: &World) -> Result<Self> {
        // It refuses to run as root, and its own user must reach its folder.
        fs::set_permissions(world.folder(), Permissions::from_mode(0o711))?;
        let folder = world.path("postgres");
        fs::create_dir_all(&folder)?;
        let owned = Command::new("chown")
            .arg("postgres")
            .arg(&folder)
            .output()?;
        ensure!(owned.status.success(), "{owned:?}");
        let data = folder.join("data");
        let made = as_itself("initdb")?
            .args([
                "-U",
                "postgres",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
            ])
            .args(["--no-sync", "-D"])
            .arg(&data)
            .current_dir(&folder)
            .output()?;
        ensure!(made.status.success(), "{made:?}");
        // It cannot listen on a port that it chooses itself, and tell: a free one may be taken meanwhile.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = as_itself("postgres")?;
        command
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "log_statement=all",
            ])
            .args(["-c", "fsync=off", "-c"])
            .arg(format!("unix_socket_directories={}", folder.display()))
            .current_dir(&folder);
        let program = world.start("postgres", &mut command)?;
        let server = Self {
            program,
            folder,
            port,
        };
        until("PostgreSQL answers", async || {
            ensure!(server.program.ended().is_none(), "{}", server.log());
            Ok(server.sql("SELECT 1").is_ok().then_some(()))
        })
        .await?;
        Ok(server)
    }

    /// Where it listens on the loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Has it show a certificate for 127.0.0.1; that of the authority that has signed it, PEM.
    ///
    /// # Errors
    /// When there is no OpenSSL, or it does not take it.
    pub async fn with_tls(&self) -> Result<String> {
        let script = "set -e; cd \"$0\"; \
            openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority; \
            openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server; \
            printf 'subjectAltName=IP:127.0.0.1' > names; \
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \
                    -out server.crt; \
            chown postgres server.key server.crt; chmod 600 server.key";
        let made = Command::new("sh")
            .args(["-c", script])
            .arg(&self.folder)
            .output()?;
        ensure!(made.status.success(), "{made:?}");
        for (name, file) in [
            ("ssl_key_file", "server.key"),
            ("ssl_cert_file", "server.crt"),
        ] {
            let file = self.folder.join(file);
            self.sql(&format!("ALTER SYSTEM SET {name} = '{}'", file.display()))?;
        }
        self.sql("ALTER SYSTEM SET ssl = on")?;
        self.sql("SELECT pg_reload_conf()")?;
        until("PostgreSQL has TLS", async || {
            Ok((self.sql("SHOW ssl")? == "on").then_some(()))
        })
        .await?;
        Ok(fs::read_to_string(self.folder.join("ca.pem"))?)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.stderr()
    }

    /// Runs statements as its superuser; what they gave, one row a line.
    ///
    /// # Errors
    /// When one fails.
    pub fn sql(&self, statements: &str) -> Result<String> {
        self.sql_in("postgres", statements)
    }

    /// As [`Postgres::sql`], in another database.
    ///
    /// # Errors
    /// When one fails.
    pub fn sql_in(&self, database: &str, statements: &str) -> Result<String> {
        let output = Command::new(binary("psql")?)
            .args([
                "-X",
                "-w",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-h",
            ])
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-d", database])
            .args(["-c", statements])
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "{statements}: {output:?}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

/// A program of PostgreSQL's, as its own user, in the one process that is started.
fn as_itself(name: &str) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ])
        .arg(binary(name)?)
        .stdin(Stdio::null());
    Ok(command)
}

fn binary(name: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: tests/run does that, in its first stage")?
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .filter(|path: &PathBuf| Path::exists(path))
        .collect();
    found.sort();
    found
        .pop()
        .with_context(|| format!("PostgreSQL has no {name}"))
}
