//! Commands on a bridge's own machine that its operator keeps in a sandbox.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use steward_bridge::policy::{Account, Policy, unsupported};
use steward_tests::{Api, Wish, World};

use super::ssh::printed_whole;

/// What a command tries, each by a name, and whether it may.
const TRIES: &str = r#"
try() {
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "$name may"; else echo "$name may not"; fi
}
try read cat "$open/file"
try read-elsewhere cat "$closed/file"
try list-elsewhere ls "$closed"
try write sh -c 'echo x >"$0/new" && mv "$0/new" "$0/newer" && rm "$0/newer"' "$written"
try write-what-is-read sh -c 'echo x >"$0/new"' "$open"
try write-elsewhere sh -c 'echo x >"$0/new"' "$closed"
try empty-elsewhere truncate -s 0 "$closed/file"
try link-elsewhere ln "$closed/file" "$written/link"
try own sh -c 'echo x >mine && cat mine && rm mine'
try start-what-was-written sh -c 'cp /bin/true "$0/prog" && exec "$0/prog"' "$written"
try devices sh -c 'head -c 1 /dev/urandom >/dev/null'
try mount perl -e 'my ($s, $t, $f) = ("none", "/no/such/place", "tmpfs"); syscall(165, $s, $t, $f, 0, 0); exit 1 if $! == 1'
try mount-apart unshare --mount mount -t tmpfs none "$written"
try namespace unshare --mount true
try user-namespace unshare --user true
try device sh -c 'mknod "$0/disk" b 7 0 && rm "$0/disk"' "$written"
try signal kill -0 "$PPID"
try children sh -c 'sleep 1000 & kill $!'
try file-socket perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or exit 1'
try socket perl -MSocket -e 'socket(my $s, AF_INET, SOCK_STREAM, 0) or exit 1'
"#;

const MAY: [&str; 5] = ["read", "write", "own", "devices", "children"];

/// What the job of a task has been allowed, and what not.
async fn tried(api: &Api, task: &str, world: &World) -> Result<(Vec<String>, Vec<String>)> {
    let inputs = json!({
        "open": world.at("open"), "closed": world.at("closed"), "written": world.at("written"),
    });
    let run = api
        .make("runs", &json!({ "task": task, "inputs": inputs }))
        .await?;
    let run = run["code"].as_str().context("no code")?;
    let ended = api.end(run).await?;
    ensure!(
        ended["state"] == "succeeded",
        "{ended} {}",
        api.job(run).await?
    );
    let said = printed_whole(api, run, "stdout").await?;
    let (mut may, mut not) = (Vec::new(), Vec::new());
    for line in said.lines() {
        match (line.strip_suffix(" may"), line.strip_suffix(" may not")) {
            (Some(name), _) => may.push(name.to_owned()),
            (None, Some(name)) => not.push(name.to_owned()),
            (None, None) => anyhow::bail!("{line}"),
        }
    }
    Ok((may, not))
}

fn task() -> String {
    let script = TRIES.replace('\n', "\n      ");
    format!(
        "template: tries\nexecutor: local\ninputs:\n  open: {{ type: path }}\n  closed: {{ type: path }}\n  \
         written: {{ type: path }}\nsteps:\n  - script: |\n      {script}\n---\ntask: tries\ntemplate: tries\n\
         targets: {{ names: [web-1] }}\n"
    )
}

/// A command touches what its operator has named, and nothing else, as root too; without a sandbox it does all that
/// was kept from it.
#[tokio::test]
async fn story_sandbox() -> Result<()> {
    ensure!(unsupported().is_none(), "{:?}", unsupported());
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    for folder in ["open", "closed", "written"] {
        fs::create_dir(world.path(folder))?;
        fs::write(world.path(folder).join("file"), "something\n")?;
    }
    let system = ["/usr", "/bin", "/lib", "/lib64", "/etc"];
    let system = system.map(|path| format!("{path:?}")).join(", ");
    let sandbox = format!(
        "\n[local.sandbox]\nread = [{system}, {:?}]\nwrite = [{:?}]\n",
        world.at("open"),
        world.at("written")
    );
    let free = Policy::starter_dev(&Account::current()?.name);
    let wish = Wish {
        policy: Some(format!("{free}{sandbox}")),
        ..Wish::default()
    };
    let bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    hub.apply(&task()).await?;
    let api = hub.api()?;
    let (may, not) = tried(&api, "tries", &world).await?;
    ensure!(may == MAY, "{may:?}");
    ensure!(not.len() == 15, "{not:?}");
    let kept = fs::read_to_string(world.path("closed").join("file"))?;
    ensure!(kept == "something\n", "{kept:?}");
    let check = bridge.operator(&["check"]).await?.succeeded()?;
    for sentence in [
        "They may not reach the network, nor",
        "read and start what is at or below",
    ] {
        ensure!(
            check.stdout.contains(sentence),
            "{sentence}: {}",
            check.stdout
        );
    }
    // The next job is held to what the file says by then.
    let open = format!("{free}{sandbox}sockets = \"all\"\n");
    fs::write(bridge.policy_file(), open)?;
    let (may, _) = tried(&api, "tries", &world).await?;
    ensure!(
        may.ends_with(&["file-socket".to_owned(), "socket".to_owned()]),
        "{may:?}"
    );
    let local = format!(
        "{free}{sandbox}sockets = \"local\"
"
    );
    fs::write(bridge.policy_file(), local)?;
    let (may, _) = tried(&api, "tries", &world).await?;
    ensure!(
        may.last().is_some_and(|last| last == "file-socket"),
        "{may:?}"
    );
    let missing = sandbox.replace("written", "nowhere");
    fs::write(bridge.policy_file(), format!("{free}{missing}"))?;
    nothing_starts(&api).await?;
    // All of it is what a command could do otherwise, if a machine lets its users have namespaces.
    fs::write(bridge.policy_file(), &free)?;
    let (_, not) = tried(&api, "tries", &world).await?;
    ensure!(not.iter().all(|name| name == "user-namespace"), "{not:?}");
    world.passed().await
}

/// Where a path of the sandbox is not there, nothing is started.
async fn nothing_starts(api: &Api) -> Result<()> {
    let run = api
        .make(
            "runs",
            &json!({ "task": "tries", "inputs": {
            "open": "/", "closed": "/", "written": "/",
        } }),
        )
        .await?;
    let run = run["code"].as_str().context("no code")?;
    let ended = api.end(run).await?;
    let job = api.job(run).await?;
    ensure!(ended["state"] == "failed", "{ended} {job}");
    ensure!(job["attempt"]["state"] == "not_started", "{job}");
    ensure!(
        job["why"]
            .as_str()
            .is_some_and(|why| why.contains("nowhere of the sandbox")),
        "{job}"
    );
    Ok(())
}
