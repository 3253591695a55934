//! How machines are known: by authorities that sign for hosts; and what they are reached with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use steward_tests::{Hub, Sshd, World};

use super::{key_login, over_ssh, said};

/// A new key; the file of its private half.
pub(super) fn keygen(world: &World, name: &str, kind: &str) -> Result<PathBuf> {
    let path = world.path(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", "", "-C", "", "-f"])
        .arg(&path)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(path)
}

fn public(path: &Path) -> Result<String> {
    Ok(fs::read_to_string(path.with_extension("pub"))?
        .trim()
        .to_owned())
}

/// A server whose host key has a certificate that is made with these words.
async fn certified(world: &World, name: &str, authority: &Path, words: &[&str]) -> Result<Sshd> {
    let key = keygen(world, &format!("{name}-key"), "ed25519")?;
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-s"])
        .arg(authority)
        .args(["-I", name])
        .args(words)
        .arg(key.with_extension("pub"))
        .output()?;
    ensure!(signed.status.success(), "{signed:?}");
    let extra = format!(
        "HostKey {}\nHostCertificate {}-cert.pub",
        key.display(),
        key.display()
    );
    Sshd::start(world, name, &extra).await
}

async fn target(hub: &Hub, port: u16, more: &str) -> Result<()> {
    hub.apply(&format!(
        "target: machine\nsite: dmz\naddress: 127.0.0.1\nssh: {{ port: {port}, {more} }}\n"
    ))
    .await
}

/// Certificates by which a host is not known: its name, who signs it, how, and why not.
fn wrong<'a>(
    authority: &'a Path,
    stranger: &'a Path,
) -> [(
    &'static str,
    &'a Path,
    &'static [&'static str],
    &'static str,
); 7] {
    [
        (
            "other-authority",
            stranger,
            &["-h", "-n", "nas-1,127.0.0.1"],
            "no authority",
        ),
        (
            "for-users",
            authority,
            &["-n", "127.0.0.1"],
            "not for a host",
        ),
        (
            "elsewhere",
            authority,
            &["-h", "-n", "127.0.0.2"],
            "not for the address",
        ),
        ("everywhere", authority, &["-h"], "not for the address"),
        (
            "past",
            authority,
            &["-h", "-n", "127.0.0.1", "-V", "-2h:-1h"],
            "not good any more",
        ),
        (
            "to-come",
            authority,
            &["-h", "-n", "127.0.0.1", "-V", "+10m:+1h"],
            "not good yet",
        ),
        (
            "critical",
            authority,
            &["-h", "-n", "127.0.0.1", "-O", "critical:new=1"],
            "critical option",
        ),
    ]
}

/// A machine is known by a certificate of an authority that is on record, if that is for a host, for its address, for
/// now and for nothing that nobody knows. One that is not is offered nothing.
#[tokio::test]
async fn ssh_host_is_known_by_its_authority() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let authority = keygen(&world, "authority", "ed25519")?;
    let stranger = keygen(&world, "stranger", "ed25519")?;
    let here = ["-h", "-n", "nas-1,127.0.0.1"];
    let good = certified(&world, "good", &authority, &here).await?;
    let trusted = format!("host_authorities: [{:?}]", public(&authority)?);
    target(&hub, good.port(), &trusted).await?;
    key_login(&hub, &good).await?;
    hub.apply(&over_ssh("who", "root-key", "run: id -un"))
        .await?;
    let api = hub.api()?;
    ensure!(said(&api, "who").await? == "root\n", "another account");
    let wrong = wrong(&authority, &stranger);
    for (name, by, words, why) in wrong {
        // OpenSSH's server takes what it is given, whatever it says.
        let sshd = certified(&world, name, by, words).await?;
        target(&hub, sshd.port(), &trusted).await?;
        let run = api.run("who").await?;
        api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(job["attempt"]["state"] == "refused", "{name}: {job}");
        let text = job.to_string();
        ensure!(
            text.contains("host-key") && text.contains(why),
            "{name}: {job}"
        );
        let log = sshd.log();
        ensure!(
            !log.contains("userauth") && !log.contains("Accepted"),
            "{log}"
        );
    }
    // A server without a certificate, and no key on record.
    let bare = Sshd::start(&world, "bare", "").await?;
    target(&hub, bare.port(), &trusted).await?;
    let run = api.run("who").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["state"] == "refused", "{job}");
    world.passed().await
}

/// A server that knows only what is old is reached where its target names that and the bridge's policy does too.
#[tokio::test]
async fn ssh_older_algorithms_are_used_by_name_only() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let key = keygen(&world, "old-key", "rsa")?;
    let old = format!(
        "HostKey {}\nHostKeyAlgorithms ssh-rsa\nKexAlgorithms diffie-hellman-group14-sha1\nCiphers aes128-cbc\n\
         MACs hmac-sha1\nPubkeyAcceptedAlgorithms ssh-rsa,ssh-ed25519",
        key.display()
    );
    let sshd = Sshd::start(&world, "old", &old).await?;
    let known = format!("host_keys: [{:?}]", public(&key)?);
    target(&hub, sshd.port(), &known).await?;
    key_login(&hub, &sshd).await?;
    hub.apply(&over_ssh("who", "root-key", "run: id -un"))
        .await?;
    let api = hub.api()?;
    let run = api.run("who").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["state"] == "not_started", "{job}");
    let all = "ssh-rsa, diffie-hellman-group14-sha1, aes128-cbc, hmac-sha1";
    let with = format!("{known}, algorithms: [{all}]");
    target(&hub, sshd.port(), &with).await?;
    let run = api.run("who").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(
        job.to_string().contains("policy.ssh.algorithms"),
        "its policy names none: {job}"
    );
    let names = all
        .split(", ")
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let policy = fs::read_to_string(bridge.policy_file())?;
    let more = format!("[ssh]\nalgorithms = [{names}]\n");
    fs::write(bridge.policy_file(), policy.replace("[ssh]\n", &more))?;
    ensure!(said(&api, "who").await? == "root\n", "another account");
    world.passed().await
}
