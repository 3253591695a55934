//! Values of credentials are changed on real machines: OpenSSH's server, `chpasswd`, `authorized_keys`.

mod kills;

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Api, Bridge, Canary, Hub, Sshd, World, until};

const PASSWORD: &str = "first Password 1";

/// Gives an account a new password, as root.
const CHANGE: &str = "template: change-password\nexecutor: ssh\nsecrets: [new]\nsteps:\n  - run: chpasswd\n    \
                      stdin: \"{{ new.account }}:{{ new }}\\n\"\ntimeout: 60s\n---\n";

/// A machine, the accounts on it, and a hub that can change them.
struct Site {
    world: World,
    hub: Hub,
    bridge: Bridge,
    sshd: Sshd,
    api: Api,
}

impl Site {
    async fn new(accounts: &[&str]) -> Result<Self> {
        let world = World::new()?;
        let hub = world.hub().await?;
        let bridge = hub.dmz().await?;
        let accounts: Vec<_> = accounts.iter().map(|name| (*name, PASSWORD)).collect();
        let typed = "PasswordAuthentication yes\nMaxAuthTries 20";
        let sshd = Sshd::with_accounts(&world, "sshd", typed, &accounts).await?;
        let api = hub.api()?;
        let site = Self {
            world,
            hub,
            bridge,
            sshd,
            api,
        };
        let (port, key) = (site.sshd.port(), site.sshd.host_key()?);
        site.hub
            .apply(&format!(
                "target: machine\nsite: dmz\naddress: 127.0.0.1\nssh: {{ port: {port}, host_keys: [{key:?}] }}\n---\n\
                 credential: root-key\nkind: ssh-key\naccount: root\n---\n{CHANGE}"
            ))
            .await?;
        let key = site.sshd.key("login")?;
        site.hub
            .set_credential("root-key", &fs::read_to_string(&key)?)
            .await?;
        fs::remove_file(key)?;
        for (account, _) in &accounts {
            site.password(account, "{ template: change-password, login: root-key }")
                .await?;
            site.hub.set_credential(account, PASSWORD).await?;
        }
        Ok(site)
    }

    /// A credential for the password of an account of the same name, and a task that signs in with it.
    async fn password(&self, account: &str, rotation: &str) -> Result<()> {
        self.hub
            .apply(&format!(
                "credential: {account}\nkind: password\naccount: {account}\ntargets: {{ names: [machine] }}\n\
                 rotation: {rotation}\n---\n\
                 template: who\nexecutor: ssh\nsteps:\n  - run: id -un\n---\n\
                 task: who-{account}\ntemplate: who\nlogin: {{ credential: {account} }}\n\
                 targets: {{ names: [machine] }}\n"
            ))
            .await
    }

    /// Signs in with what the hub has now.
    async fn works(&self, account: &str) -> Result<()> {
        let run = self.api.run(&format!("who-{account}")).await?;
        let ended = self.api.end(&run).await?;
        let job = self.api.job(&run).await?;
        ensure!(
            ended.get("state").is_some_and(|state| state == "succeeded"),
            "{account}: {ended} {job}"
        );
        Ok(())
    }

    /// Asks for a change or a check, and waits for its end.
    async fn ask(&self, credential: &str, act: &str) -> Result<Value> {
        let path = format!("credentials/{credential}/{act}");
        let asked = self.api.post(&path, &json!({})).await?;
        ensure!(asked.status == 202, "{asked:?}");
        let asked = asked.json()?;
        let id = asked.get("id").and_then(Value::as_str).context("an id")?;
        self.ended(id).await
    }

    async fn ended(&self, rotation: &str) -> Result<Value> {
        until("the rotation ends", async || {
            let found = self.api.object(&format!("rotations/{rotation}")).await?;
            let open = found.get("verdict").is_none_or(|verdict| verdict == "open");
            Ok((!open).then_some(found))
        })
        .await
    }

    /// What is on record of a credential: its version, and what its one target takes.
    async fn record(&self, credential: &str) -> Result<(u64, u64, String)> {
        let found = self
            .api
            .object(&format!("credentials/{credential}"))
            .await?;
        let number = |at: &str| {
            found
                .pointer(at)
                .and_then(Value::as_u64)
                .context("a number")
        };
        Ok((
            number("/version")?,
            number("/targets/0/version")?,
            found
                .pointer("/targets/0/state")
                .and_then(Value::as_str)
                .context("a state")?
                .to_owned(),
        ))
    }

    /// Changes a password past the hub.
    fn meddle(&self, account: &str, password: &str) -> Result<()> {
        self.sshd.set_password(account, password)
    }
}

/// An account's password is changed on its machine by a privileged account, and the next task works; a value that
/// no longer works is found by a check, and put right by a change.
#[tokio::test]
async fn story_rotate_password() -> Result<()> {
    let site = Site::new(&["deploy"]).await?;
    site.works("deploy").await?;
    let rotated = site
        .hub
        .cli(&["credentials", "rotate", "deploy"])
        .await?
        .succeeded()?;
    ensure!(rotated.stdout.contains("succeeded"), "{rotated:#?}");
    ensure!(
        site.record("deploy").await? == (2, 2, "proven".to_owned()),
        "record"
    );
    site.works("deploy").await?;
    ensure!(
        site.sshd
            .log()
            .matches("Accepted password for deploy")
            .count()
            == 3,
        "{}",
        site.sshd.log()
    );
    let shown = site
        .hub
        .cli(&["credentials", "show", "deploy"])
        .await?
        .succeeded()?;
    ensure!(shown.stdout.contains("who-deploy"), "{shown:#?}");
    // Past the hub: the stored value no longer works, which a check finds and a change puts right.
    site.meddle("deploy", "somebody else's 9")?;
    site.hub
        .cli(&["credentials", "verify", "deploy"])
        .await?
        .exited(10)?;
    ensure!(site.record("deploy").await?.2 == "unknown", "record");
    let run = site.api.run("who-deploy").await?;
    site.api.end(&run).await?;
    let job = site.api.job(&run).await?.to_string();
    ensure!(job.contains("nobody knows which value of deploy"), "{job}");
    let ended = site.ask("deploy", "rotate").await?;
    ensure!(ended["verdict"] == "succeeded", "{ended}");
    site.works("deploy").await?;
    // The account itself cannot change it; then a second privileged one does.
    site.password(
        "deploy",
        "{ template: change-password, reconcile: root-key }",
    )
    .await?;
    let ended = site.ask("deploy", "rotate").await?;
    ensure!(ended["verdict"] == "failed", "{ended}");
    ensure!(ended["targets"][0]["phase"] == "kept", "{ended}");
    site.works("deploy").await?;
    site.meddle("deploy", "and again 9")?;
    let ended = site.ask("deploy", "rotate").await?;
    ensure!(ended["verdict"] == "succeeded", "{ended}");
    site.works("deploy").await?;
    let events = site.api.list("events?limit=1000").await?;
    let counted = |action: &str| events.iter().filter(|one| one["action"] == action).count();
    ensure!(counted("rotation.requested") == 5, "requests");
    ensure!(counted("rotation.ended") == 5, "ends");
    ensure!(counted("lease.opened") == counted("lease.ended"), "leases");
    let canary = Canary::new(PASSWORD);
    canary.absent_under(site.world.folder(), &[])?;
    site.world.passed().await
}

/// A key is changed in `authorized_keys`: the new one is added, proven, and then the old one is taken away.
#[tokio::test]
async fn ssh_key_is_replaced() -> Result<()> {
    let site = Site::new(&[]).await?;
    let file = site.sshd.file("authorized_keys").display().to_string();
    site.hub
        .apply(&format!(
            "template: add-key\nexecutor: ssh\ninputs:\n  new_public: {{ type: text, max_length: 1000 }}\n\
             environment: {{ FILE: {file} }}\nsteps:\n  - script: |\n      umask 077; printf '%s\\n' \"$new_public\" >> \"$FILE\"\n\
             ---\n\
             template: remove-key\nexecutor: ssh\ninputs:\n  old_public: {{ type: text, max_length: 1000 }}\n\
             environment: {{ FILE: {file} }}\nsteps:\n  - script: |\n      \
             grep -vxF -- \"$old_public\" \"$FILE\" > \"$FILE.new\"; cat \"$FILE.new\" > \"$FILE\"; rm \"$FILE.new\"\n\
             ---\n\
             credential: root-key\nkind: ssh-key\naccount: root\ntargets: {{ names: [machine] }}\n\
             rotation: {{ template: add-key, finish: remove-key, every: 3650d }}\n---\n\
             template: who\nexecutor: ssh\nsteps:\n  - run: id -un\n---\n\
             task: who-root\ntemplate: who\nlogin: {{ credential: root-key }}\ntargets: {{ names: [machine] }}\n"
        ))
        .await?;
    let public = site
        .hub
        .cli(&["credentials", "public", "root-key"])
        .await?
        .succeeded()?;
    ensure!(
        fs::read_to_string(&file)?.contains(public.stdout.trim()),
        "the old key"
    );
    let ended = site.ask("root-key", "rotate").await?;
    ensure!(ended["verdict"] == "succeeded", "{ended}");
    let after = site
        .hub
        .cli(&["credentials", "public", "root-key"])
        .await?
        .succeeded()?;
    ensure!(after.stdout != public.stdout, "the same key");
    let keys = fs::read_to_string(&file)?;
    ensure!(keys.trim() == after.stdout.trim(), "{keys}");
    site.works("root").await?;
    site.world.passed().await
}

/// A parent's change starts one of each of its children, and theirs of theirs; each has its own verdict, and its
/// cause is on record.
#[tokio::test]
async fn story_parent_and_children() -> Result<()> {
    let site = Site::new(&["deploy", "app", "db"]).await?;
    for (name, parent, rotation) in [
        (
            "app",
            "deploy",
            "rotation: { template: change-password, login: root-key }\n",
        ),
        // It cannot change itself: chpasswd is root's.
        ("db", "app", "rotation: { template: change-password }\n"),
    ] {
        site.hub
            .apply(&format!(
                "credential: {name}\nkind: password\naccount: {name}\ntargets: {{ names: [machine] }}\n\
                 parent: {parent}\n{rotation}"
            ))
            .await?;
    }
    site.hub
        .apply("credential: note\nkind: token\naccount: note\nparent: deploy\n")
        .await?;
    let circle = "credential: deploy\nkind: password\naccount: deploy\ntargets: { names: [machine] }\nparent: db\n\
                  rotation: { template: change-password, login: root-key }\n";
    let refused = site.hub.apply_any(circle).await?;
    ensure!(refused.stderr.contains("after itself"), "{refused:#?}");
    let ended = site.ask("deploy", "rotate").await?;
    ensure!(ended["verdict"] == "succeeded", "{ended}");
    for (name, verdict, by) in [
        ("app", "succeeded", "deploy by rotation "),
        ("db", "failed", "app by rotation "),
        ("note", "failed", "deploy by rotation "),
    ] {
        let rotations = until("the child has its verdict", async || {
            let all = site
                .api
                .list(&format!("credentials/{name}/rotations"))
                .await?;
            Ok(all.first().filter(|one| one["verdict"] != "open").cloned())
        })
        .await?;
        ensure!(rotations["verdict"] == verdict, "{name}: {rotations}");
        ensure!(rotations["cause"] == "parent", "{rotations}");
        ensure!(
            rotations["cause_detail"]
                .as_str()
                .is_some_and(|text| text.starts_with(by)),
            "{rotations}"
        );
    }
    for account in ["deploy", "app", "db"] {
        site.works(account).await?;
    }
    // A value that a person sets is a change too.
    site.meddle("deploy", PASSWORD)?;
    site.hub.set_credential("deploy", PASSWORD).await?;
    let again = until("the child is changed again", async || {
        let all = site.api.list("credentials/app/rotations").await?;
        let newest = all.first().filter(|one| one["verdict"] != "open").cloned();
        Ok(newest.filter(|_| all.len() == 2))
    })
    .await?;
    ensure!(
        again["cause_detail"] == "deploy by a value that admin has set",
        "{again}"
    );
    site.works("app").await?;
    site.world.passed().await
}

/// A value that is changed after each use, and one that is as old as it may be, are changed by themselves.
#[tokio::test]
async fn value_is_changed_after_use_and_in_time() -> Result<()> {
    let site = Site::new(&["deploy"]).await?;
    site.password(
        "deploy",
        "{ template: change-password, login: root-key, after_use: true }",
    )
    .await?;
    let newest = async |count: usize| {
        until("it is changed by itself", async || {
            let all = site.api.list("credentials/deploy/rotations").await?;
            let newest = all.first().filter(|one| one["verdict"] != "open").cloned();
            Ok(newest.filter(|_| all.len() == count))
        })
        .await
    };
    site.works("deploy").await?;
    let changed = newest(1).await?;
    ensure!(
        changed["verdict"] == "succeeded" && changed["cause"] == "use",
        "{changed}"
    );
    site.works("deploy").await?;
    newest(2).await?;
    ensure!(
        site.record("deploy").await? == (3, 3, "proven".to_owned()),
        "record"
    );
    site.world.passed().await
}

/// Commands are given secrets on standard input; what they print of them is masked, and a bridge whose operator
/// has not allowed it refuses.
#[tokio::test]
async fn secret_reaches_a_command_and_nobody_else() -> Result<()> {
    let site = Site::new(&["deploy"]).await?;
    let policy = fs::read_to_string(site.bridge.policy_file())?;
    site.hub
        .apply(
            "template: tell\nexecutor: local\nsecrets: [it]\nsteps:\n  - run: sh -c 'wc -c; id -un'\n    \
             stdin: \"{{ it }}\"\n  - run: cat\n    stdin: \"{{ it.account }}={{ it }}.\"\n---\n\
             task: tell\ntemplate: tell\nsecrets: { it: deploy }\ntargets: { names: [machine] }\n---\n\
             template: tell-there\nexecutor: ssh\nsecrets: [it]\nsteps:\n  \
             - run: sh -c 'cat; tr \"\\\\0\" \" \" < /proc/$PPID/cmdline'\n    stdin: \"{{ it }}\"\n---\n\
             task: tell-there\ntemplate: tell-there\nlogin: { credential: root-key }\nsecrets: { it: deploy }\n\
             targets: { names: [machine] }\n",
        )
        .await?;
    let said = async |task: &str| {
        let run = site.api.run(task).await?;
        let ended = site.api.end(&run).await?;
        let whole = |job: &Value| job["attempt"]["output_complete"] == true;
        let job = site.api.job_until(&run, "told whole", whole).await?;
        ensure!(ended["state"] == "succeeded", "{ended} {job}");
        let attempt = job.pointer("/attempt/id").and_then(Value::as_str);
        let output = site
            .api
            .output(attempt.context("no attempt")?, "stdout", 0)
            .await?;
        Ok(String::from_utf8(output)?)
    };
    let local = said("tell").await?;
    ensure!(
        local.starts_with("16\n") && local.ends_with("deploy=[masked]."),
        "{local}"
    );
    let there = said("tell-there").await?;
    ensure!(there.starts_with("[masked]"), "{there}");
    let forbidding = policy.replace("secrets = true", "secrets = false");
    ensure!(forbidding != policy, "{policy}");
    fs::write(site.bridge.policy_file(), forbidding)?;
    for (task, clause) in [
        ("tell", "policy.local.secrets"),
        ("tell-there", "policy.ssh.secrets"),
    ] {
        until("the bridge refuses", async || {
            let run = site.api.run(task).await?;
            site.api.end(&run).await?;
            let job = site.api.job(&run).await?;
            Ok((job["attempt"]["refusal"]["clause"] == clause).then_some(()))
        })
        .await?;
    }
    Canary::new(PASSWORD).absent_under(site.world.folder(), &[])?;
    site.world.passed().await
}
