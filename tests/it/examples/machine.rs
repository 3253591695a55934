//! The machine that the templates are run on: its accounts, files and services, and a hub and a bridge that reach it.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use steward_shared::template::{Executor, Manifest};
use steward_tests::{Api, Bridge, Hub, Postgres, Program, Sshd, World, until};
use tokio::sync::Semaphore;

use super::beside;
use super::cases::Case;

/// A password with what `psql` has to be told of it by a backslash.
const PASSWORD: &str = "Kanari:9\\Vogel";

pub(crate) struct Machine {
    world: World,
    hub: Hub,
    _bridge: Bridge,
    sshd: Sshd,
    api: Api,
    /// Runs at one time: a server lets ten sessions share a connection, and one that has just ended may still count.
    turns: Semaphore,
    /// Programs that are ended without order.
    others: Vec<(Arc<Program>, Signal)>,
    /// What stands for a value that begins with `@`.
    known: BTreeMap<String, String>,
}

impl Machine {
    /// The machine, with every template of the library and a task for each.
    pub(crate) async fn new(library: &BTreeMap<String, (Manifest, String)>) -> Result<Self> {
        let world = World::new()?;
        let hub = world.hub().await?;
        let bridge = hub.dmz().await?;
        // Whoever has the first of these signs in as anybody; the second is as on any machine.
        let extra = format!(
            "AuthorizedKeysFile {} .ssh/authorized_keys\nPasswordAuthentication yes",
            world.at("sshd/authorized_keys")
        );
        let setup = beside("setup.sh")?;
        let sshd = Sshd::with_machine(&world, "sshd", &extra, &setup).await?;
        let api = hub.api()?;
        let mut machine = Self {
            world,
            hub,
            _bridge: bridge,
            sshd,
            api,
            turns: Semaphore::new(5),
            others: Vec::new(),
            known: BTreeMap::new(),
        };
        machine.credentials().await?;
        machine.documents(library).await?;
        machine.files().await?;
        machine.servers().await?;
        Ok(machine)
    }

    async fn credentials(&self) -> Result<()> {
        let target = self.document()?;
        self.hub
            .apply(&format!(
                "{target}---\n\
                 credential: root-key\nkind: ssh-key\naccount: root\n---\n\
                 credential: kim-database\nkind: password\naccount: kim\n"
            ))
            .await?;
        self.hub.set_credential("kim-database", PASSWORD).await?;
        let key = self.sshd.key("login")?;
        let text = fs::read_to_string(&key)?;
        fs::remove_file(key)?;
        self.hub.set_credential("root-key", &text).await
    }

    /// The target's document, which says nothing of databases.
    fn document(&self) -> Result<String> {
        let (port, key) = (self.sshd.port(), self.sshd.host_key()?);
        Ok(format!(
            "target: machine\nsite: dmz\naddress: 127.0.0.1\n\
             ssh: {{ port: {port}, host_keys: [{key:?}], reuse: 60s }}\n"
        ))
    }

    async fn documents(&self, library: &BTreeMap<String, (Manifest, String)>) -> Result<()> {
        let mut documents = String::new();
        for (name, (manifest, text)) in library {
            documents += text;
            documents += "\n---\n";
            if !manifest.secrets.is_empty() && name != "postgres-login-check" {
                continue;
            }
            documents +=
                &format!("task: {name}\ntemplate: {name}\ntargets: {{ names: [machine] }}\n");
            match manifest.executor {
                Executor::Local => {}
                Executor::Ssh => documents += "login: { credential: root-key }\n",
                Executor::Sql => documents += "login: { credential: kim-database }\n",
                Executor::Telnet => documents += "login: { credential: kim-telnet }\n",
                Executor::Http if manifest.authenticate.is_some() => {
                    documents += "login: { credential: kim-database }\n";
                }
                Executor::Http => {}
            }
            if !manifest.secrets.is_empty() {
                documents += "secrets: { login: kim-database }\n";
            }
            documents += "---\n";
        }
        self.hub.apply(&documents).await
    }

    /// The artifacts that are put on the machine, and days.
    async fn files(&mut self) -> Result<()> {
        let authority = self.sshd.inside("cat /etc/ssl/example/one.pem")?.stdout;
        for (name, content) in [
            ("@one", &b"one\n"[..]),
            ("@two", b"two\n"),
            ("@sshd", b"PermitRootLogin no\n"),
            ("@authority", &authority),
        ] {
            let file = self.world.path("artifact");
            fs::write(&file, content)?;
            let file = file.display().to_string();
            let put = self
                .hub
                .cli(&["artifacts", "put", &file, "-o", "name"])
                .await?;
            let id = put.succeeded()?.stdout.trim().to_owned();
            self.known.insert(name.to_owned(), id);
        }
        for days in [30, 400, 1000] {
            let day = Command::new("date")
                .args(["-u", "-d", &format!("{days} days"), "+%Y-%m-%d"])
                .output()?;
            let day = String::from_utf8(day.stdout)?.trim().to_owned();
            self.known.insert(format!("@in {days} days"), day);
        }
        Ok(())
    }

    /// A database with a query that takes long, and a server with a certificate.
    async fn servers(&mut self) -> Result<()> {
        let postgres = Postgres::start(&self.world).await?;
        for statement in [
            "CREATE ROLE root SUPERUSER LOGIN",
            "CREATE ROLE kim LOGIN CREATEROLE PASSWORD 'Kanari:9\\Vogel'",
            "CREATE ROLE leaver LOGIN",
            "CREATE DATABASE shop",
        ] {
            postgres.sql(statement)?;
        }
        let (socket, port) = (self.world.at("postgres"), postgres.port().to_string());
        let mut slow = Command::new("psql");
        slow.args(["-X", "-w", "-U", "postgres", "-h", &socket, "-p", &port])
            .args(["-d", "shop", "-c", "SELECT pg_sleep(600)"]);
        // A query that is interrupted is taken back; its server would wait for it.
        let slow = self.world.start("slow", &mut slow)?;
        self.others.push((slow, Signal::SIGINT));
        until("a query runs", async || {
            let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND datname = 'shop'";
            Ok((postgres.sql(count)? == "1").then_some(()))
        })
        .await?;
        self.hub
            .apply(&format!(
                "{}sql: {{ port: {port}, database: shop, tls: 'off' }}\n",
                self.document()?
            ))
            .await?;
        self.known.insert("@socket".to_owned(), socket);
        self.known.insert("@postgres".to_owned(), port);
        for name in ["one.pem", "one.key"] {
            let content = self.sshd.inside(&format!("cat /etc/ssl/example/{name}"))?;
            fs::write(self.world.path(name), content.stdout)?;
        }
        // It cannot tell a port that it has chosen before somebody else may have it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut tls = Command::new("openssl");
        tls.args([
            "s_server",
            "-quiet",
            "-accept",
            &format!("127.0.0.1:{port}"),
        ])
        .args(["-cert", &self.world.at("one.pem")])
        .args(["-key", &self.world.at("one.key")]);
        // Where a run is in the background, an interrupt is ignored.
        let tls = self.world.start("tls", &mut tls)?;
        self.others.push((tls, Signal::SIGTERM));
        until("the server answers", async || {
            let asked = std::net::TcpStream::connect(("127.0.0.1", port));
            Ok(asked.is_ok().then_some(()))
        })
        .await?;
        self.known.insert("@tls".to_owned(), port.to_string());
        let ssh = self.sshd.port();
        self.known.insert("@ssh".to_owned(), ssh.to_string());
        self.known.insert("@ssh,1".to_owned(), format!("{ssh},1"));
        Ok(())
    }

    /// Runs a template, and looks at how it ended, what it said and what it has done.
    pub(crate) async fn run(&self, case: &Case) -> Result<()> {
        let _turn = self.turns.acquire().await?;
        let mut inputs = Map::new();
        for (name, value) in &case.inputs {
            let value = self.known.get(value).unwrap_or(value);
            inputs.insert(name.clone(), value.as_str().into());
        }
        let body = json!({ "task": case.template, "inputs": inputs });
        let run = self.api.make("runs", &body).await;
        let run = run.with_context(|| format!("{case:?}"))?;
        let run = run["code"].as_str().context("a run has a code")?;
        let ended = self.api.end(run).await?;
        let whole = |job: &Value| job["attempt"]["output_complete"] == true;
        let job = self.api.job_until(run, "told whole", whole).await?;
        let attempt = job["attempt"]["id"].as_str().context("no attempt")?;
        let mut said = String::new();
        for stream in ["stdout", "stderr"] {
            let output = self.api.output(attempt, stream, 0).await?;
            said += &String::from_utf8_lossy(&output);
        }
        let code = job["attempt"]["exit"]["code"].as_i64();
        ensure!(
            code.is_some_and(|code| case.ends.contains(&code)),
            "{case:?} ended with {code:?}: {said} {job}"
        );
        ensure!(
            (ended["state"] == "succeeded") == (code == Some(0)),
            "{case:?}: {ended}"
        );
        ensure!(said.contains(&case.says), "{case:?} said: {said}");
        if !case.effect.is_empty() {
            let looked = self.sshd.inside(&case.effect)?;
            ensure!(
                looked.status.success(),
                "{case:?} has not done it: {looked:?} {said}"
            );
        }
        Ok(())
    }

    /// A password is changed by the template, and signs in.
    pub(crate) async fn change_password(&self) -> Result<()> {
        self.hub
            .apply(
                "credential: kim-password\nkind: password\naccount: kim\ntargets: { names: [machine] }\n\
                 rotation: { template: change-password, login: root-key }\n",
            )
            .await?;
        self.hub
            .set_credential("kim-password", "first Password 1")
            .await?;
        self.rotate("kim-password").await
    }

    /// A key is let in by one template, and its predecessor is let in no more by the other.
    pub(crate) async fn change_key(&self) -> Result<()> {
        self.hub
            .apply(
                "credential: kim-key\nkind: ssh-key\naccount: kim\ntargets: { names: [machine] }\n\
                 rotation: { template: add-authorized-key, finish: remove-authorized-key }\n",
            )
            .await?;
        let key = self.world.path("kim-key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(&key)
            .output()?;
        ensure!(made.status.success(), "{made:?}");
        let text = fs::read_to_string(&key)?;
        self.hub.set_credential("kim-key", &text).await?;
        let public = fs::read_to_string(key.with_extension("pub"))?;
        let public = public.trim();
        let file = "/home/kim/.ssh/authorized_keys";
        let written = self.sshd.inside(&format!(
            "echo '# kept' > {file} && printf %s 'no-pty {public} old' >> {file}"
        ))?;
        ensure!(written.status.success(), "{written:?}");
        self.rotate("kim-key").await?;
        let keys = self.sshd.inside(&format!("cat {file}"))?.stdout;
        let keys = String::from_utf8(keys)?;
        let after = self.hub.cli(&["credentials", "public", "kim-key"]).await?;
        let after = after.succeeded()?.stdout;
        ensure!(
            keys == format!("# kept\n{}\n", after.trim()) && !after.contains(public),
            "{keys}, and the key is {after}"
        );
        Ok(())
    }

    async fn rotate(&self, credential: &str) -> Result<()> {
        let rotated = self.hub.cli(&["credentials", "rotate", credential]).await?;
        let rotated = rotated.succeeded()?;
        ensure!(rotated.stdout.contains("succeeded"), "{rotated:#?}");
        let shown = self
            .api
            .object(&format!("credentials/{credential}"))
            .await?;
        let state = shown.pointer("/targets/0/state");
        ensure!(state == Some(&Value::from("proven")), "{shown}");
        Ok(())
    }

    pub(crate) async fn passed(self) -> Result<()> {
        for (program, signal) in &self.others {
            program.signal(*signal)?;
            program.end().await?;
        }
        self.world.passed().await
    }
}
