//! A bridge that starts only what people have approved: the way of an honest run, and a stolen hub before it.

mod attacks;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use steward_bridge::policy::{Account, Policy};
use steward_shared::codec;
use steward_shared::frame::{Cancel, Offer, ReceiptEvent, Refusal, ToBridge};
use steward_shared::job::Job;
use steward_shared::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
use steward_shared::proof::Proof;
use steward_tests::{Bridge, Hub, Wish, World, until};

use self::attacks::{ATTACKS, Ground};
use super::authors::{key, public, sign};
use super::hub::{Rogue, encoded, write};

/// A template whose one input is written down where it runs.
fn documents(marker: &str) -> String {
    format!(
        "template: note\nexecutor: local\ninputs: {{ word: {{ type: identifier, max_length: 8 }} }}\n\
         steps: [ script: 'echo \"$word\" >> {marker}' ]\n"
    )
}

const TASK: &str = "---\ntask: note\ntemplate: note\ntargets: { names: [web-1, web-2] }\n";

/// People with keys of OpenSSH's.
struct People {
    /// The author; also listed as an approver.
    ann: PathBuf,
    kim: PathBuf,
    lee: PathBuf,
    /// Nobody's approver.
    zoe: PathBuf,
}

impl People {
    fn new(world: &World) -> Result<Self> {
        let people = Self {
            ann: key(world, "ann", "ed25519")?,
            kim: key(world, "kim", "ed25519")?,
            lee: key(world, "lee", "ecdsa")?,
            zoe: key(world, "zoe", "ed25519")?,
        };
        let ann = public(&people.ann)?;
        fs::write(
            world.path("authors"),
            format!("ann@example.org {ann}\nanna@example.org {ann}\n"),
        )?;
        let (kim, lee) = (public(&people.kim)?, public(&people.lee)?);
        // Kim has a second key, and the author one that she writes no templates with.
        let other = public(&key(world, "kim-2", "ed25519")?)?;
        let hers = public(&key(world, "ann-2", "ed25519")?)?;
        // One key under two names makes both the same person's.
        let [zed, zeta, anna] =
            ["zed", "zeta", "anna"].map(|name| public(&key(world, name, "ed25519")?));
        let (zed, zeta, anna) = (zed?, zeta?, anna?);
        fs::write(
            world.path("approvers"),
            format!(
                "ann@example.org {ann}\nkim@example.org namespaces=\"steward-approval\" {kim}\n\
                 kim@example.org {other}\nlee@example.org {lee}\nAnn@example.org {hers}\n\
                 zed@example.org {zed}\nzeta@example.org {zed}\nzeta@example.org {zeta}\nanna@example.org {anna}\n"
            ),
        )?;
        Ok(people)
    }
}

/// A bridge that starts what one author has signed and two others have approved.
async fn strict(world: &World, hub: &Hub) -> Result<Bridge> {
    hub.site("dmz", &["web-1", "web-2"]).await?;
    let policy = Policy::starter_dev(&Account::current()?.name).replace("tier = 0", "tier = 2")
        + &format!(
            "\n[templates]\nauthors = {:?}\n\n[approvals]\napprovers = {:?}\nsignatures = 2\nwithin = \"9h\"\n",
            world.at("authors"),
            world.at("approvers"),
        );
    let wish = Wish {
        policy: Some(policy),
        ..Wish::default()
    };
    hub.bridge_with("br-1", "dmz", &wish).await
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path")
}

/// A template that its author has signed; nothing is started of it that nobody has approved.
async fn published(world: &World, hub: &Hub, people: &People) -> Result<()> {
    let file = world.path("note.yaml");
    fs::write(&file, documents(&world.at("ran")))?;
    hub.apply(&(fs::read_to_string(&file)? + TASK)).await?;
    let sign = ["templates", "sign", text(&file)?, "--key"];
    let signed = hub
        .cli(&[&sign[..], &[text(&people.ann)?]].concat())
        .await?;
    signed.succeeded()?;
    let says = [
        "policy.approvals",
        "nobody has approved this run",
        "2 people",
    ];
    let run = ["run", "note", "-i", "word=first"];
    hub.cli(&run).await?.exited(3)?.says(&says)?;
    Ok(())
}

/// Asks for approval of a run, and looks at the file as its readers do.
async fn requested(world: &World, hub: &Hub, file: &str) -> Result<()> {
    let asked = [
        "run",
        "note",
        "-i",
        "word=first",
        "--request-approval",
        file,
    ];
    let shown = hub.cli(&asked).await?.succeeded()?;
    for part in [
        "web-1 at",
        "web-2 at",
        "     word=first\n",
        "these 2 jobs, each once",
    ] {
        ensure!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let read = hub.cli(&["approvals", "show", file]).await?.succeeded()?;
    ensure!(read.stdout == shown.stdout, "{}", read.stdout);
    read.says(&["nobody has signed it"])?;
    // Whoever changes what is shown changes what it is of.
    let whole = fs::read_to_string(file)?;
    let forged = world.path("forged.approval");
    for (from, to) in [("first", "other"), ("web-2", "web-3"), ("jobs 2", "jobs 1")] {
        ensure!(whole.contains(from), "{from}");
        fs::write(&forged, whole.replace(from, to))?;
        let forged = ["approvals", "show", text(&forged)?];
        hub.cli(&forged)
            .await?
            .exited(2)?
            .says(&["do not sign it"])?;
    }
    ensure!(!world.path("ran").exists(), "something ran");
    Ok(())
}

async fn signs(hub: &Hub, file: &str, key: &Path) -> Result<()> {
    let sign = ["--yes", "approvals", "sign", file, "--key", text(key)?];
    hub.cli(&sign).await?.succeeded().map(drop)
}

/// The honest way: asked for, read, signed by two people, run once. What was offered then.
async fn approved(
    world: &World,
    hub: &Hub,
    bridge: &Bridge,
    people: &People,
) -> Result<(Job, Proof)> {
    let file = world.at("first.approval");
    requested(world, hub, &file).await?;
    let run = ["run", "note", "-i", "word=first", "--approval", &file];
    signs(hub, &file, &people.kim).await?;
    let says = ["policy.approvals.signatures", "signatures of 1", "2 must"];
    hub.cli(&run).await?.exited(3)?.says(&says)?;
    // Nobody approves what is their own.
    signs(hub, &file, &people.ann).await?;
    let says = ["policy.approvals.signatures", "signed the template too"];
    hub.cli(&run).await?.exited(3)?.says(&says)?;
    // Lee signs with nothing of Steward's but the text.
    let show = ["approvals", "show", &file, "--text"];
    let content = hub.cli(&show).await?.succeeded()?.stdout;
    let by_lee = sign(world, &people.lee, "steward-approval", content.as_bytes())?;
    fs::write(world.path("lee.sig"), by_lee)?;
    let by_lee = world.at("lee.sig");
    let add = ["approvals", "sign", &file, "--signature", &by_lee];
    hub.cli(&add).await?.succeeded()?;
    let other = ["run", "note", "-i", "word=second", "--approval", &file];
    let says = ["would do something else now"];
    hub.cli(&other).await?.exited(2)?.says(&says)?;
    let fewer = [&run[..], &["-t", "web-1"]].concat();
    hub.cli(&fewer).await?.exited(2)?.says(&says)?;
    ensure!(!world.path("ran").exists(), "something ran");
    // Longer than the bridge's operator wants; what is refused is kept as it was offered.
    let policy = fs::read_to_string(bridge.policy_file())?;
    let shorter = policy.replace("within = \"9h\"", "within = \"1h\"");
    fs::write(bridge.policy_file(), shorter)?;
    let says = ["policy.approvals.within"];
    hub.cli(&run).await?.exited(3)?.says(&says)?;
    let offered = taken(world, hub).await?;
    fs::write(bridge.policy_file(), policy)?;
    hub.cli(&run).await?.succeeded()?;
    let code = newest(hub).await?;
    ensure!(fs::read_to_string(world.path("ran"))? == "first\nfirst\n");
    // Once: the hub knows of every bridge, and each bridge of itself whatever a hub takes.
    let says = ["has been used for the run", &code];
    hub.cli(&run).await?.exited(2)?.says(&says)?;
    let again = hub.cli(&["runs", "rerun", &code]).await?;
    again.exited(2)?.says(&["new approval"])?;
    let shown = hub.api()?.object(&format!("runs/{code}")).await?;
    let text = shown["approval"].as_str().context("no approval")?;
    ensure!(content.contains(&format!("id {text}\n")), "{shown}");
    let events = hub.cli(&["-o", "json", "events", "list"]).await?;
    let events = events.succeeded()?.stdout;
    ensure!(events.contains("\"signed_by\""), "{events}");
    // One that has ended is not even asked for.
    let late = world.at("late.approval");
    let ask = ["run", "note", "-i", "word=first", "--good-for", "1ms"];
    let ask = [&ask[..], &["--request-approval", &late]].concat();
    hub.cli(&ask).await?.succeeded()?;
    let run = ["run", "note", "-i", "word=first", "--approval", &late];
    hub.cli(&run).await?.exited(2)?.says(&["has ended"])?;
    Ok(offered)
}

/// The newest run, by its code.
async fn newest(hub: &Hub) -> Result<String> {
    let runs = hub.api()?.list("runs").await?;
    let code = runs.first().and_then(|run| run["code"].as_str());
    Ok(code.context("no run")?.to_owned())
}

/// What the hub has offered last, and the bridge refused.
async fn taken(world: &World, hub: &Hub) -> Result<(Job, Proof)> {
    let run = newest(hub).await?;
    let jobs = hub.api()?.list(&format!("runs/{run}/jobs")).await?;
    let attempt = jobs.first().and_then(|job| job["attempt"]["id"].as_str());
    let file = world.at("job");
    let words = [
        "attempts",
        "job",
        attempt.context("no attempt")?,
        "--out",
        &file,
    ];
    hub.cli(&words).await?.succeeded()?;
    let Offer { job, proof } = codec::decode(&fs::read(file)?, FRAME_BYTES_MAX)?;
    let job = codec::decode(job.body(), BODY_BYTES_MAX)?;
    Ok((job, *proof.context("no proof")?))
}

/// The same thing to do, under ids that the bridge has never heard of.
fn anew(rogue: &mut Rogue, job: &Job) -> Job {
    let fresh = rogue.job("");
    Job {
        project: job.project.clone(),
        template: job.template.clone(),
        target: job.target.clone(),
        action: job.action.clone(),
        limits: job.limits,
        runtime_ms: job.runtime_ms,
        rendered: job.rendered,
        ..fresh
    }
}

async fn offer(rogue: &mut Rogue, job: &Job, proof: &Proof) -> Result<()> {
    let offer = Offer {
        job: rogue.sign(job)?,
        proof: Some(Box::new(proof.clone())),
    };
    rogue.offer(&encoded(&ToBridge::Offer(offer))?).await
}

async fn refused(rogue: &mut Rogue, job: &Job, proof: &Proof) -> Result<Refusal> {
    offer(rogue, job, proof).await?;
    let event = rogue.receipt(job.attempt).await?;
    let ReceiptEvent::Refused(refusal) = event else {
        bail!("it was not refused: {event:?}");
    };
    Ok(refusal)
}

/// What was approved is started once, and again only where nothing was.
async fn once(rogue: &mut Rogue, bridge: &Bridge, ground: &Ground<'_>) -> Result<()> {
    let (job, proof) = ground.good(rogue)?;
    // Accepted, and taken back before its start.
    offer(rogue, &job, &proof).await?;
    let cancel = Cancel {
        cluster: job.cluster,
        bridge: job.bridge,
        attempt: job.attempt,
        fence: job.fence,
    };
    let cancel = ToBridge::Cancel(rogue.sign(&cancel)?);
    write(&mut rogue.send, &cancel).await?;
    while !matches!(
        rogue.receipt(job.attempt).await?,
        ReceiptEvent::NotStarted { .. }
    ) {}
    // Two attempts are accepted before either is started: one is.
    let (one, other) = (anew(rogue, &job), anew(rogue, &job));
    offer(rogue, &one, &proof).await?;
    let first = rogue.permit_once_asked(&one).await?;
    offer(rogue, &other, &proof).await?;
    let second = rogue.permit_once_asked(&other).await?;
    write(&mut rogue.send, &first).await?;
    write(&mut rogue.send, &second).await?;
    let event = rogue.receipt(other.attempt).await?;
    let ReceiptEvent::NotStarted { reason } = event else {
        bail!("it was started twice: {event:?}")
    };
    ensure!(reason.contains("policy.approvals"), "{reason}");
    let ran = ground.path("ran");
    until("the other has run", async || {
        let ran = fs::read_to_string(&ran)?;
        Ok((ran == "first\nfirst\nfirst\n").then_some(()))
    })
    .await?;
    for restarted in [false, true] {
        if restarted {
            bridge.kill_runner().await?;
            rogue.await_bridge().await?;
        }
        let again = anew(rogue, &job);
        let refusal = refused(rogue, &again, &proof).await?;
        ensure!(refusal.clause == "policy.approvals", "{refusal:?}");
        ensure!(refusal.message.contains("before"), "{refusal:?}");
    }
    Ok(())
}

/// A run that people have approved runs once, as they have approved it; and whoever has the hub's database and all of
/// its keys can have this bridge start nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn story_approved_run() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let people = People::new(&world)?;
    let bridge = strict(&world, &hub).await?;
    published(&world, &hub, &people).await?;
    let says = bridge.operator(&["check"]).await?.succeeded()?.stdout;
    ensure!(says.contains("2 of these people have approved"), "{says}");
    let (job, proof) = approved(&world, &hub, &bridge, &people).await?;
    // What the journal has is not looked at here.
    let told = bridge.operator(&["explain", &world.at("job")]).await?;
    let told = told.succeeded()?.stdout;
    ensure!(
        told.contains(": job 1 of 2, from ") && told.contains("with 3 signatures"),
        "{told}"
    );

    let mut rogue = Rogue::new(&hub, &bridge).await?;
    let again = anew(&mut rogue, &job);
    let refusal = refused(&mut rogue, &again, &proof).await?;
    ensure!(refusal.clause == "policy.approvals", "{refusal:?}");
    let ground = Ground::new(&world, &people, job, proof);
    for (what, clause, attack) in ATTACKS {
        let (job, proof) = ground.good(&mut rogue)?;
        let (job, proof) = attack(&ground, job, proof).context(*what)?;
        let refusal = refused(&mut rogue, &job, &proof).await.context(*what)?;
        println!("{what}: {}: {}", refusal.clause, refusal.message);
        ensure!(refusal.clause == *clause, "{what}: {refusal:?}");
    }
    let ran = fs::read_to_string(world.path("ran"))?;
    ensure!(ran == "first\nfirst\n", "{ran}");
    world.expect_error("the runner has ended");
    once(&mut rogue, &bridge, &ground).await?;
    // An approver whom the operator strikes off is believed no more, at once.
    let approvers = world.path("approvers");
    let without = fs::read_to_string(&approvers)?.replace("lee@", "#lee@");
    fs::write(&approvers, without)?;
    let (job, proof) = ground.good(&mut rogue)?;
    let refusal = refused(&mut rogue, &job, &proof).await?;
    ensure!(
        refusal.clause == "policy.approvals.signatures",
        "{refusal:?}"
    );
    let ran = fs::read_to_string(world.path("ran"))?;
    ensure!(ran == "first\nfirst\nfirst\n", "{ran}");
    world.passed().await
}
