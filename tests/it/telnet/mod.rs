//! Dialogues over Telnet: with Debian's telnetd and a real login, and with programs that speak it wrongly.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use steward_tests::{Api, Bridge, Hub, Sshd, TELNET_MACHINE, Telnetd, World, until};

use crate::ssh::{add, all_die, leases, printed, said, started};

const SECRET: &str = "Corr3ct-Horse-Battery";

const NEXT: &str = "An0ther-Staple-Ladder";

/// How a person signs in there, and has a prompt that nothing else looks like.
const SIGN_IN: &str = "      - { wait: \"*ogin:\", type: \"{{ login.account }}\" }
      - { wait: \"*assword:\", type: \"{{ login }}\" }
      - { wait: \"*kim> \", refuse: [\"*incorrect*\"], type: \"echo begun:$TERM\" }
      - { wait: \"*begun:*kim> \" }
";

struct Place {
    hub: Hub,
    bridge: Bridge,
    machine: Sshd,
    telnetd: Telnetd,
}

async fn place(world: &World) -> Result<Place> {
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let setup = format!(
        "{TELNET_MACHINE}useradd -m -s /bin/sh kim\necho kim:{SECRET} | chpasswd\n\
         echo \"PS1='kim> '\" >/home/kim/.profile\n"
    );
    let machine = Sshd::with_machine(world, "machine", "", &setup).await?;
    let telnetd = Telnetd::start(&machine)?;
    add(&hub, "kim", "password", "kim").await?;
    hub.set_credential("kim", SECRET).await?;
    hub.apply(&target(telnetd.port())).await?;
    Ok(Place {
        hub,
        bridge,
        machine,
        telnetd,
    })
}

fn target(port: u16) -> String {
    format!("target: switch\nsite: dmz\naddress: 127.0.0.1\ntelnet: {{ port: {port} }}\n")
}

fn dialogue(name: &str, head: &str, items: &str) -> String {
    format!(
        "template: {name}\nexecutor: telnet\n{head}steps:\n  - terminal:\n{items}\n---\ntask: {name}\n\
         template: {name}\nlogin: {{ credential: kim }}\ntargets: {{ names: [switch] }}\n"
    )
}

/// The attempt of a run, when it has ended.
async fn ended(api: &Api, run: &str) -> Result<Value> {
    api.end(run).await?;
    let mut job = api.job(run).await?;
    Ok(job["attempt"].take())
}

/// Somebody signs in by a dialogue, with a password that is masked also where the machine shows it; what is typed
/// arrives, and the session is over when the dialogue is.
#[tokio::test]
async fn story_telnet() -> Result<()> {
    let world = World::new()?;
    let Place {
        hub,
        bridge: _bridge,
        machine,
        telnetd,
    } = place(&world).await?;
    let api = hub.api()?;
    let items = format!(
        "{SIGN_IN}      - {{ type: \"printf '%s is here; ' {{{{ note }}}}; id -un; stty size; cat said\" }}
      - {{ wait: \"*kim> \", type: exit }}"
    );
    let head = "inputs: { note: { type: identifier } }\n";
    let document =
        dialogue("look", head, &items).replace("login: {", "with: { note: a_note }\nlogin: {");
    hub.apply(&document).await?;
    let written = machine.inside(&format!("echo 'it was {SECRET}' >/home/kim/said"))?;
    ensure!(written.status.success(), "{written:?}");
    let shown = said(&api, "look").await?;
    ensure!(
        shown.contains("a_note is here; kim\r\n") && shown.contains("begun:dumb\r\n"),
        "{shown:?}"
    );
    ensure!(
        shown.contains("it was [masked]") && !shown.contains(SECRET),
        "{shown:?}"
    );
    until("the session is over", async || {
        Ok((telnetd.sessions() == 0).then_some(()))
    })
    .await?;
    let counted = leases(&api).await?;
    ensure!(
        counted.get("lease.opened") == Some(&1) && counted.get("lease.ended") == Some(&1),
        "{counted:?}"
    );
    // The library's own change of a password, and the hub's word that it was one.
    let library = fs::read_to_string("../examples/templates/telnet-own-password.yaml")?;
    add(&hub, "kim-new", "password", "kim").await?;
    hub.set_credential("kim-new", NEXT).await?;
    hub.apply(&format!(
        "{library}---\ntask: change\ntemplate: telnet-own-password\nlogin: {{ credential: kim }}\n\
         secrets: {{ new: kim-new }}\ntargets: {{ names: [switch] }}\n"
    ))
    .await?;
    let shown = said(&api, "change").await?;
    ensure!(!shown.contains(NEXT), "{shown}");
    hub.set_credential("kim", NEXT).await?;
    said(&api, "look").await?;
    // What is shown before is how it is done, the password a blank.
    let dry = hub.cli(&["run", "look", "--dry-run"]).await?.succeeded()?;
    ensure!(
        dry.stdout.contains("over Telnet, port")
            && ![SECRET, NEXT].iter().any(|one| dry.stdout.contains(one)),
        "{}",
        dry.stdout
    );
    world.passed().await
}

/// A password that is not taken, a port where nobody is, and a machine that nobody allowed.
#[tokio::test]
async fn telnet_is_refused() -> Result<()> {
    let world = World::new()?;
    let Place {
        hub,
        bridge,
        machine: _machine,
        telnetd,
    } = place(&world).await?;
    let api = hub.api()?;
    hub.apply(&dialogue("look", "", SIGN_IN)).await?;
    hub.set_credential("kim", "wrong-password").await?;
    let attempt = ended(&api, &api.run("look").await?).await?;
    let exit = &attempt["exit"];
    let why = exit["message"].as_str().unwrap_or_default();
    ensure!(
        attempt["state"] == "failed"
            && why.starts_with("item 3: the target has shown \"*incorrect*\""),
        "{attempt}"
    );
    hub.apply(&target(1)).await?;
    let run = api.run("look").await?;
    ended(&api, &run).await?;
    let job = api.job(&run).await?;
    ensure!(
        job["attempt"]["state"] == "not_started" && job.to_string().contains("unreachable: "),
        "{job}"
    );
    hub.apply(&target(telnetd.port())).await?;
    let policy = fs::read_to_string(bridge.policy_file())?;
    let (before, _) = policy.split_once("[telnet]").context("no section")?;
    fs::write(bridge.policy_file(), before)?;
    let attempt = ended(&api, &api.run("look").await?).await?;
    ensure!(attempt["refusal"]["clause"] == "policy.telnet", "{attempt}");
    // Only a password can be typed.
    add(&hub, "kim-key", "ssh-key", "kim").await?;
    let other = dialogue("other", "", SIGN_IN).replace("credential: kim", "credential: kim-key");
    let refused = hub.apply_any(&other).await?.exited(2)?;
    ensure!(refused.stderr.contains("over Telnet"), "{}", refused.stderr);
    world.passed().await
}

/// A cancel, a deadline and the death of the bridge end the session, and what runs in it.
#[tokio::test]
async fn telnet_dialogue_dies_with_its_job() -> Result<()> {
    let world = World::new()?;
    let place = place(&world).await?;
    let (hub, bridge) = (&place.hub, &place.bridge);
    let api = hub.api()?;
    let items = format!(
        "{SIGN_IN}      - {{ type: \"sh -c 'sleep 600 & echo pids: $$ $! .; wait'\" }}
      - {{ wait: \"*no such text*\", within: 10m }}"
    );
    hub.apply(&dialogue("stay", "", &items)).await?;
    let limited = format!("{items}\n    timeout: 4s");
    hub.apply(&dialogue("late", "", &limited)).await?;
    let run = api.run("late").await?;
    let attempt = ended(&api, &run).await?;
    ensure!(attempt["state"] == "timed_out", "{attempt}");
    let run = api.run("stay").await?;
    let pids = started(&api, &run).await?;
    hub.cli(&["runs", "cancel", &run, "--yes"])
        .await?
        .succeeded()?;
    let attempt = ended(&api, &run).await?;
    ensure!(attempt["state"] == "cancelled", "{attempt}");
    all_die(&pids).await?;
    let run = api.run("stay").await?;
    let pids = started(&api, &run).await?;
    world.expect_error("the runner has ended");
    bridge.kill_runner().await?;
    all_die(&pids).await?;
    let attempt = ended(&api, &run).await?;
    ensure!(attempt["state"] == "unknown", "{attempt}");
    world.passed().await
}

/// What a server does with its connection after it has asked for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaks {
    /// It resets it: what it was sent is still unread.
    Off,
    /// It never says that it is over.
    Nothing,
    /// It shows more than any job may.
    Floods,
}

/// A connection that is reset fails its dialogue at once, and one whose other side never says that its
/// session is over makes a job *unknown* that was cancelled, or that was shown more than it may be; the bridge goes on
/// with others.
#[tokio::test]
async fn telnet_connections_break() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    add(&hub, "kim", "password", "kim").await?;
    hub.set_credential("kim", SECRET).await?;
    let api = hub.api()?;
    hub.apply(&dialogue("look", "limits: { output: 1MiB }\n", SIGN_IN))
        .await?;
    for breaks in [Breaks::Off, Breaks::Floods, Breaks::Nothing, Breaks::Off] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        hub.apply(&target(listener.local_addr()?.port())).await?;
        let (told, over) = std::sync::mpsc::channel::<()>();
        let server = std::thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"login: ")?;
            stream.peek(&mut [0])?;
            match breaks {
                Breaks::Off => return Ok(()),
                Breaks::Nothing => {}
                // It goes on for as long as anybody listens.
                Breaks::Floods => while stream.write_all(&[b'x'; 4096]).is_ok() {},
            }
            over.recv().ok();
            Ok(())
        });
        let run = api.run("look").await?;
        if breaks == Breaks::Nothing {
            until("its prompt is shown", async || {
                let text = printed(&api, &run, "stdout").await.unwrap_or_default();
                Ok(text.contains("login: ").then_some(()))
            })
            .await?;
            hub.cli(&["runs", "cancel", &run, "--yes"])
                .await?
                .succeeded()?;
        }
        let attempt = ended(&api, &run).await?;
        let state = match breaks {
            Breaks::Off => "failed",
            Breaks::Floods | Breaks::Nothing => "unknown",
        };
        ensure!(attempt["state"] == state, "{breaks:?}: {attempt}");
        drop(told);
        server
            .join()
            .map_err(|_| anyhow::anyhow!("it panicked"))??;
    }
    world.passed().await
}

/// A server that asks for all there is and says nothing that is waited for: it is told nothing of the bridge.
#[tokio::test]
async fn telnet_hostile_servers() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    add(&hub, "kim", "password", "kim").await?;
    hub.set_credential("kim", SECRET).await?;
    let api = hub.api()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    hub.apply(&target(listener.local_addr()?.port())).await?;
    let (typed, named) = std::sync::mpsc::channel();
    let heard = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
        let (mut stream, _) = listener.accept()?;
        for option in 0..=254 {
            stream.write_all(&[255, 253, option, 255, 251, option])?;
            stream.write_all(&[255, 250, option, 1, 255, 240])?;
        }
        stream.write_all(b"login: ")?;
        let (mut heard, mut byte) = (Vec::new(), [0]);
        // It says no end until it has to.
        while stream.read(&mut byte)? > 0 {
            heard.extend_from_slice(&byte);
            if heard.ends_with(b"kim\r") {
                typed.send(()).ok();
            }
        }
        Ok(heard)
    });
    hub.apply(&dialogue("look", "", SIGN_IN)).await?;
    let run = api.run("look").await?;
    until("the account is typed", async || Ok(named.try_recv().ok())).await?;
    hub.cli(&["runs", "cancel", &run, "--yes"])
        .await?
        .succeeded()?;
    let attempt = ended(&api, &run).await?;
    ensure!(attempt["state"] == "cancelled", "{attempt}");
    let heard = heard.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    let is_told = |words: &str| {
        heard
            .windows(words.len())
            .any(|part| part == words.as_bytes())
    };
    ensure!(is_told("dumb") && is_told("kim\r"), "{heard:?}");
    ensure!(
        !is_told(SECRET),
        "the password was typed where nothing asked for it"
    );
    world.passed().await
}
