//! Hostile values in inputs of several types, by every way in which a value comes into a command.

mod values;
mod ways;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_shared::template::{Document, Manifest, parse_documents};
use steward_tests::{Api, Hub, Sshd, World, report};

use crate::http::Httpd;
use crate::ssh::{add, printed_whole};
use ways::{TYPES, Way};

/// Inputs of one template.
pub(crate) const INPUTS: usize = 50;

/// What fills inputs that are left.
fn filler(kind: &str) -> &'static str {
    match kind {
        "path" => "/x",
        "number" => "0",
        _ => "x",
    }
}

/// Makes a machine whose `/bin/sh` is this program, and a target of its name.
async fn machine(world: &World, hub: &Hub, shell: &str) -> Result<Sshd> {
    let setup = format!(
        "ln -sf {shell} /usr/bin/sh\nsed -i 's:^\\(root\\:.*\\:\\)[^:]*$:\\1/bin/{login}:' /etc/passwd\n\
         cat >/usr/bin/powershell <<'END'\n#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\"\ncat\nEND\n\
         chmod 755 /usr/bin/powershell\n",
        login = if shell == "bash" { "bash" } else { "sh" },
    );
    let sshd = Sshd::with_machine(world, &format!("machine-{shell}"), "", &setup).await?;
    let key = sshd.key("login")?;
    add(hub, &format!("{shell}-key"), "ssh-key", "root").await?;
    hub.set_credential(&format!("{shell}-key"), &fs::read_to_string(&key)?)
        .await?;
    fs::remove_file(key)?;
    let (port, host_key) = (sshd.port(), sshd.host_key()?);
    hub.apply(&format!(
        "target: {shell}\nsite: dmz\naddress: 127.0.0.1\n\
         ssh: {{ port: {port}, host_keys: [{host_key:?}], reuse: 60s }}\n"
    ))
    .await?;
    Ok(sshd)
}

fn manifest(document: &str) -> Result<Manifest> {
    let documents = parse_documents(document).map_err(|error| anyhow::anyhow!("{error}"))?;
    let first = documents.into_iter().next().context("no document")?;
    let Document::Template { manifest, .. } = first else {
        anyhow::bail!("not a template: {document}");
    };
    Ok(*manifest)
}

fn given(kind: &str, values: &[String]) -> BTreeMap<String, Value> {
    let filled = values
        .iter()
        .map(String::as_str)
        .chain(std::iter::repeat(filler(kind)));
    (0..INPUTS)
        .zip(filled)
        .map(|(at, value)| (format!("a{at}"), value.into()))
        .collect()
}

/// How many values have arrived, and how many were refused.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    arrived: usize,
    refused: usize,
}

/// Sends every value of a type on one way: what is taken arrives to the byte, what is not is refused by the hub before
/// anything is sent, with the whole template where nothing of the type could be safe.
async fn send(
    (hub, api): (&Hub, &Api),
    way: Way,
    kind: &'static str,
    all: &Arc<Vec<String>>,
) -> Result<Count> {
    let document = way.document(kind);
    let Ok(manifest) = manifest(&document) else {
        hub.apply_any(&document).await?.exited(2)?;
        return Ok(Count {
            arrived: 0,
            refused: all.len(),
        });
    };
    hub.apply(&document).await?;
    // It takes seconds, in which the connections of the others would not be served.
    let values = Arc::clone(all);
    let judged = tokio::task::spawn_blocking(move || {
        let is_taken = |value: &String| {
            let given = given(kind, std::slice::from_ref(value));
            manifest.values(&given).is_ok()
        };
        values.iter().cloned().partition::<Vec<_>, _>(is_taken)
    });
    let (taken, refused) = judged.await?;
    let name = way.name(kind);
    // What refuses is the same on every way: on all but one a part of them is enough.
    let each = if matches!(way, Way::Local) { 1 } else { 9 };
    for value in refused.iter().step_by(each) {
        let body = json!({ "task": name, "inputs": given(kind, std::slice::from_ref(value)) });
        let answer = api.post("runs", &body).await?;
        ensure!(answer.status == 422, "{name}: {value:?}: {}", answer.status);
    }
    for some in taken.chunks(INPUTS) {
        let body = json!({ "task": name, "inputs": given(kind, some) });
        let made = api.post("runs", &body).await?;
        ensure!(made.status == 201, "{name}: {}", made.json()?);
        let run = made.json()?;
        let run = run.get("code").and_then(Value::as_str).context("no code")?;
        let ended = api.end(run).await?;
        ensure!(
            ended.get("state").is_some_and(|state| state == "succeeded"),
            "{name}: {}",
            api.job(run).await?
        );
        let printed = printed_whole(api, run, "stdout").await?;
        let arrived = way.arrived(&printed).with_context(|| name.clone())?;
        for (at, value) in some.iter().enumerate() {
            let got = arrived.get(at);
            ensure!(got == Some(value), "{name}: {value:?} arrived as {got:?}");
        }
    }
    Ok(Count {
        arrived: taken.len(),
        refused: refused.len(),
    })
}

/// What is written down of a value holds: it arrives, or it is refused before anything is sent.
fn as_written_down(canary: &str) -> Result<()> {
    for one in values::known(canary)? {
        for (way, arrives) in [
            (Way::Ssh("dash"), one.argument),
            (Way::Terminal, one.typed),
            (Way::PowerShell, one.powershell),
        ] {
            // Whether it is one line or several is for the type to say.
            let taken = ["text", "lines"].into_iter().any(|kind| {
                manifest(&way.document(kind))
                    .and_then(|manifest| {
                        let given = given(kind, std::slice::from_ref(&one.value));
                        manifest
                            .values(&given)
                            .map_err(|_| anyhow::anyhow!("refused"))
                    })
                    .is_ok()
            });
            // What no text for people has is refused by its type already.
            let is_strange =
                |c: char| (c.is_control() && !"\n\t".contains(c)) || "\u{2028}\u{2029}".contains(c);
            let right = match arrives {
                None => true,
                Some(true) => taken || one.value.contains(is_strange),
                Some(false) => !taken,
            };
            ensure!(right, "{way:?}: {one:?}");
        }
    }
    Ok(())
}

/// 500 values in inputs of six types, as an argument here and over SSH to each of three shells, typed on a terminal,
/// as data of PowerShell, in JSON, and in paths and queries: each arrives to the byte or is refused, and nothing in any of them is ever done. No
/// PowerShell is to be had here: what is checked of it is what a program of its name is given.
#[tokio::test]
async fn hostile_values() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let canary = world.at("canary");
    as_written_down(&canary)?;
    let mut machines = Vec::new();
    for shell in ["dash", "bash", "busybox"] {
        let machine = machine(&world, &hub, shell).await?;
        let version = machine.inside("readlink -f /bin/sh")?;
        let real = String::from_utf8(version.stdout)?;
        ensure!(real.trim_end().ends_with(shell), "{shell}: {real}");
        machines.push(machine);
    }
    let server = Httpd::start(&world, None).await?;
    hub.apply(&format!(
        "target: server\nsite: dmz\naddress: 127.0.0.1\nhttp: {{ port: {}, tls: 'off' }}\n",
        server.port
    ))
    .await?;
    let (all, api) = (Arc::new(values::all(&canary)?), hub.api()?);
    let [one, two, three, four, five, six, seven, eight] = Way::ALL.map(|way| {
        let (all, hub) = (&all, (&hub, &api));
        async move {
            let mut count = Count::default();
            for kind in TYPES {
                let Count { arrived, refused } = send(hub, way, kind, all).await?;
                count.arrived += arrived;
                count.refused += refused;
            }
            Ok::<_, anyhow::Error>((way, count))
        }
    });
    let (one, two, three, four, five, six, seven, eight) =
        tokio::try_join!(one, two, three, four, five, six, seven, eight)?;
    for (way, Count { arrived, refused }) in [one, two, three, four, five, six, seven, eight] {
        report(&format!("{way:?}: {arrived} arrived, {refused} refused"));
        ensure!(arrived + refused == TYPES.len() * values::COUNT, "{way:?}");
        ensure!(arrived > values::COUNT / 3, "{way:?}: {arrived}");
    }
    ensure!(!Path::new(&canary).exists(), "a value was carried out");
    world.passed().await
}
