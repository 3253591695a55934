//! A link that has a user of its own: what it cannot do, and that it may die at any time.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use steward_tests::{Bridge, Hub, Wish, World, as_user, is_alive, report, script, until};

use super::load::{counting, lines};
use super::upgraded::is_gone;

/// Nobody's number, and another nobody's.
pub(super) const LINK: u32 = 61_234;
const OTHER: u32 = 61_235;

/// How long the runner may take to turn somebody away.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process has the link's user and nothing else, and cannot get it.
fn is_bare(pid: i32) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let is = |name: &str, expected: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let found = line.with_context(|| format!("no {name}"))?;
        let found: Vec<&str> = found.split_ascii_whitespace().collect();
        ensure!(found.join(" ") == expected, "{name} {found:?}");
        Ok(())
    };
    let all = [LINK; 4].map(|number| number.to_string()).join(" ");
    is("Uid:", &all)?;
    is("Gid:", &all)?;
    is("Groups:", "")?;
    is("NoNewPrivs:", "1")?;
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        is(set, "0000000000000000")?;
    }
    Ok(())
}

fn denied<T>(what: &str, tried: std::io::Result<T>) -> Result<()> {
    match tried {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{what}: another error was expected")),
        Ok(_) => anyhow::bail!("{what}: nobody prevented it"),
    }
}

/// As the link's user: its own folder is open, everything of the runner is closed.
fn is_shut_in(data: &Path, others: &[i32]) -> Result<usize> {
    let mut tried = 0;
    fs::read(data.join("link/identity.json")).context("its own identity")?;
    denied("data", fs::read_dir(data))?;
    denied("a new file", fs::write(data.join("new"), "x"))?;
    denied(
        "the socket's name",
        fs::remove_file(data.join("runner.sock")),
    )?;
    for name in ["runner", "runner/spool", "runner/work"] {
        denied(name, fs::read_dir(data.join(name)))?;
        tried += 1;
    }
    for name in [
        "bridge-policy.toml",
        "runner/receipt.key",
        "runner/trust.json",
        "runner/journal.db",
        "runner/locked",
    ] {
        denied(name, fs::read(data.join(name)))?;
        denied(name, fs::write(data.join(name), "x"))?;
        tried += 2;
    }
    for pid in others {
        denied("memory", fs::File::open(format!("/proc/{pid}/mem")))?;
        denied("environment", fs::read(format!("/proc/{pid}/environ")))?;
        for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGSTOP)] {
            let sent = kill(Pid::from_raw(*pid), signal);
            ensure!(sent == Err(Errno::EPERM), "{signal:?} to {pid}: {sent:?}");
        }
        tried += 5;
    }
    Ok(tried + 3)
}

/// Nobody else gets to the runner, also when the link has opened the socket to all.
async fn turned_away(bridge: &Bridge) -> Result<()> {
    let socket = bridge.data().join("runner.sock");
    let connect = || as_user(OTHER, || Ok(UnixStream::connect(&socket)));
    denied("the socket", connect()?)?;
    as_user(LINK, || {
        Ok(fs::set_permissions(&socket, Permissions::from_mode(0o666))?)
    })?;
    let mut stream = connect()??;
    stream.set_read_timeout(Some(PATIENCE))?;
    let read = stream.read(&mut [0]);
    ensure!(matches!(read, Ok(0)), "the runner has let it in: {read:?}");
    bridge
        .link()?
        .logs("turned away a link of another user")
        .await
}

async fn hub_of(world: &World) -> Result<Hub> {
    let lifetime = "[certificates]\nbridge_lifetime_seconds = 10\n";
    let hub = world.hub_with("hub", lifetime).await?;
    hub.site("dmz", &["web-1"]).await?;
    Ok(hub)
}

/// Kills the link in the middle of a job: the job, its output and the runner do not notice.
async fn killed_for_nothing(hub: &Hub, bridge: &Bridge) -> Result<()> {
    const LINES: usize = 100;
    let text = counting(LINES, "sleep 0.05");
    hub.apply(&script("count", "dmz", "", &text)).await?;
    let (link, runner) = (bridge.link_apart(None).await?, bridge.runner().await?);
    let live = hub.follow(&["run", "count"])?;
    live.line("line 20").await?;
    kill(Pid::from_raw(link), Signal::SIGKILL)?;
    let next = bridge.link_apart(Some(link)).await?;
    let output = live.end().await?.succeeded()?;
    ensure!(
        output.stdout.as_bytes() == lines(LINES),
        "lines were lost, doubled or out of order"
    );
    ensure!(bridge.runner().await? == runner, "the runner has changed");
    is_bare(next)
}

/// The link has a user of its own and no privilege: it reaches its own folder and the runner's socket, and
/// nothing else of the bridge. There it renews its certificate. It may be killed at any time, is started anew
/// when the bridge is upgraded, and dies with the process that has started it.
#[tokio::test]
async fn link_without_privileges() -> Result<()> {
    let world = World::new()?;
    for expected in ["the link has ended", "turned away a link of another user"] {
        world.expect_error(expected);
    }
    let hub = hub_of(&world).await?;
    let wish = Wish {
        user: Some(LINK),
        ..Wish::default()
    };
    let bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    let (link, runner) = (bridge.link_apart(None).await?, bridge.runner().await?);
    is_bare(link)?;
    let serve = bridge.link()?;
    bridge.operator(&["lock"]).await?.succeeded()?;
    let others = [runner, serve.pid()];
    let tried = as_user(LINK, || is_shut_in(bridge.data(), &others))?;
    bridge.operator(&["unlock"]).await?.succeeded()?;
    turned_away(&bridge).await?;
    killed_for_nothing(&hub, &bridge).await?;

    serve.logs("the certificate was renewed").await?;
    let kept = fs::symlink_metadata(bridge.data().join("link/identity.json"))?;
    ensure!(
        (kept.uid(), kept.mode() & 0o777) == (LINK, 0o600),
        "{kept:?}"
    );

    let former = bridge.link_apart(None).await?;
    serve.signal(Signal::SIGUSR2)?;
    let link = bridge.link_apart(Some(former)).await?;
    is_gone(runner, PATIENCE).await?;
    let runner = bridge.runner().await?;
    serve.kill()?;
    until("the link has died with it", async || {
        Ok((!is_alive(link)).then_some(()))
    })
    .await?;
    ensure!(bridge.runner().await? == runner, "the runner has changed");
    // Root has groups where it has logged in.
    let again = bridge.command(&["serve"])?;
    let mut grouped = Command::new("setpriv");
    grouped
        .args(["--groups", "0,4,24"])
        .arg(again.get_program())
        .args(again.get_args());
    bridge.start_as(&mut grouped)?.line("ready").await?;
    hub.apply(&script("short", "dmz", "", "echo short")).await?;
    hub.cli(&["run", "short"]).await?.succeeded()?;
    is_bare(bridge.link_apart(None).await?)?;
    report(&format!(
        "link_without_privileges: {tried} things that its user was denied, killed twice"
    ));
    bridge.stop().await?;
    world.passed().await
}

/// What must be said of it, and how to make it wrong, and right again.
type Flaw = (&'static str, Box<dyn Fn(bool) -> std::io::Result<()>>);

fn mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn modes(words: &'static str, path: &Path, wrong: u32) -> Flaw {
    let path = path.to_owned();
    let make = move |is_wrong| mode(&path, if is_wrong { wrong } else { 0o700 });
    (words, Box::new(make))
}

fn owner(path: &Path) -> Flaw {
    let path = path.to_owned();
    let make = move |is_wrong| chown(&path, Some(if is_wrong { OTHER } else { 0 }), None);
    ("belongs to user 61235", Box::new(make))
}

fn odd(link: &Path, make: fn(&Path) -> std::io::Result<()>) -> Flaw {
    let odd = link.join("odd");
    let make = move |is_wrong| {
        if is_wrong {
            make(&odd)
        } else {
            fs::remove_file(&odd)
        }
    };
    ("not a plain file", Box::new(make))
}

fn user(words: &'static str, config: &Path, text: &'static str) -> Flaw {
    let config = config.to_owned();
    let make = move |is_wrong| {
        let right = format!("user = {LINK}\n");
        fs::write(&config, if is_wrong { text } else { &right })
    };
    (words, Box::new(make))
}

/// Whatever others could have had a hand in is named and refused, and nothing is opened for it. A bridge
/// that was enrolled without a user gets one when its operator names it.
#[tokio::test]
async fn link_refuses_what_others_can_reach() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world).await?;
    let bridge = hub.bridge("br-1", "dmz").await?;
    bridge.stop().await?;
    let data = bridge.data();
    let (link, runner) = (data.join("link"), data.join("runner"));
    let config = world.path("br-1.toml");
    fs::write(&config, format!("user = {LINK}\n"))?;
    let flaws = [
        modes("others can reach it", &link, 0o750),
        modes("others can reach it", &runner, 0o711),
        modes("others can write it", data, 0o731),
        owner(&link),
        owner(&runner),
        odd(&link, |odd| symlink("/etc/shadow", odd)),
        odd(&link, |odd| {
            fs::hard_link(odd.with_file_name("identity.json"), odd)
        }),
        user("cannot run as 0", &config, "user = 0\n"),
        user("no user no-such-user", &config, "user = \"no-such-user\"\n"),
    ];
    mode(world.folder(), 0o711)?;
    for (words, flaw) in &flaws {
        flaw(true)?;
        let refused = bridge.operator(&["serve"]).await?;
        flaw(false)?;
        refused.exited(1)?.says(&[words])?;
    }
    mode(world.folder(), 0o700)?;
    let refused = bridge.operator(&["serve"]).await?;
    refused.exited(1)?.says(&["chmod o+x"])?;
    mode(world.folder(), 0o711)?;

    bridge.serve().await?;
    is_bare(bridge.link_apart(None).await?)?;
    let [data, link] = [data, &link].map(|path| fs::metadata(path).map(|meta| meta.mode() & 0o777));
    ensure!((data?, link?) == (0o711, 0o700));
    bridge.stop().await?;
    report(&format!(
        "link_refuses_what_others_can_reach: {} flaws",
        flaws.len() + 1
    ));
    world.passed().await
}
