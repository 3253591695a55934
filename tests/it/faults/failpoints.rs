//! Every named point of both programs: killed there under load, started again, and nothing is untrue.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use steward_shared::failpoint::{Part, Point, VARIABLE, points};
use steward_tests::{Api, Bridge, Hub, Program, Verdicts, Wish, World, report, until};

use super::load::{Load, Task};
use crate::ssh::add;

/// Points that are passed all the time: killed at the first, and at later times too.
const OFTEN: &[&str] = &[
    "hub.commit.before",
    "hub.commit.after",
    "runner.journal.before",
    "runner.journal.after",
    "link.frame.before",
    "link.frame.after",
];
/// Points that only jobs with something from outside reach: the tests of sources kill there.
const ELSEWHERE: &[&str] = &[
    "hub.fetch.owed",
    "hub.fetch.done",
    "hub.role.owed",
    "hub.role.made",
    "hub.undo.done",
];

const LATER: &[u32] = &[2, 4, 6, 8];

/// Certificates live for this many seconds where their renewal is looked at; half of it is waited for.
const LIFETIME: u32 = 30;

/// What is looked at in one world: the worlds go side by side.
const SHARES: usize = 6;

struct Place {
    world: World,
    hub: Hub,
    api: Api,
    bridge: Bridge,
    load: Load,
}

impl Place {
    async fn new(renewing: bool) -> Result<Self> {
        let world = World::new()?;
        for expected in [
            "the runner has ended",
            "cannot take a frame",
            "cannot take output",
            "another runner uses",
        ] {
            world.expect_error(expected);
        }
        let lifetime = format!("[certificates]\nbridge_lifetime_seconds = {LIFETIME}\n");
        let extra = if renewing { lifetime.as_str() } else { "" };
        let hub = world.hub_with("hub", extra).await?;
        hub.site("annex", &["annex-1"]).await?;
        let bridge = hub.dmz().await?;
        let load = Load::publish(&world, &hub, "dmz").await?;
        let api = hub.api()?;
        Ok(Self {
            world,
            hub,
            api,
            bridge,
            load,
        })
    }

    /// Kills whoever reaches the point for the nth time, starts it again, and looks.
    async fn hit(&self, point: Point, nth: u32) -> Result<()> {
        let wish = format!("{}:{nth}", point.name);
        match point.part {
            Part::Hub if point.name.starts_with("hub.enrol.") => self.hub_enrols(&point).await?,
            Part::Hub if point.name.starts_with("hub.reseal.") => self.reseals(&point).await?,
            Part::Hub if point.name.starts_with("hub.keys.") => self.changes_key(&point).await?,
            Part::Rekey => self.rekeys(&point).await?,
            Part::Hub => {
                self.hub.program().stop().await?;
                let armed = self.armed_hub(&wish)?;
                let again = async {
                    died(&armed, &point).await?;
                    self.hub.start_again().await
                };
                tokio::try_join!(self.work(), again)?;
            }
            Part::Runner if point.name.starts_with("runner.recover.") => {
                self.recovers(&point).await?;
            }
            Part::Runner => {
                self.bridge.stop().await?;
                let armed = self.armed_runner(&wish)?;
                until("the armed runner listens", async || {
                    let listens = UnixStream::connect(self.bridge.data().join("runner.sock"));
                    Ok((listens.is_ok() || armed.ended().is_some()).then_some(()))
                })
                .await?;
                // The link starts another runner by itself.
                self.bridge.start()?;
                tokio::try_join!(self.work_at(&point), died(&armed, &point))?;
            }
            Part::Link => {
                self.bridge.stop().await?;
                let mut command = self.bridge.command(&["serve"])?;
                let armed = self.bridge.start_as(command.env(VARIABLE, &wish))?;
                let again = async {
                    died(&armed, &point).await?;
                    self.bridge.start().map(drop)
                };
                tokio::try_join!(self.work_at(&point), again)?;
            }
            Part::Enroll => {
                let (bridge, token) = self.newcomer(&point).await?;
                let mut command = bridge.enrolling(&token)?;
                let armed = self.world.start("enroll", command.env(VARIABLE, &wish))?;
                died(&armed, &point).await?;
                self.enrolled_at_last(&bridge, &token, &point).await?;
            }
        }
        self.load
            .check(&self.hub)
            .await
            .map(drop)
            .with_context(|| wish)
    }

    async fn work(&self) -> Result<()> {
        self.load.submit_all(&self.api, &Task::ALL).await
    }

    /// The same, with what leads to a point that mere work does not reach.
    async fn work_at(&self, point: &Point) -> Result<()> {
        if point.name.contains("trust") {
            self.rotate("job").await?;
        }
        if point.name.contains("roots") {
            self.rotate("tls").await?;
        }
        self.work().await
    }

    /// Begins to change a key, once no earlier change of it is under way.
    async fn rotate(&self, purpose: &str) -> Result<()> {
        self.key_is_alone(purpose).await?;
        let path = format!("keys/{purpose}/rotate");
        self.api
            .make(&path, &json!({ "overlap_seconds": 0 }))
            .await?;
        Ok(())
    }

    async fn key_is_alone(&self, purpose: &str) -> Result<()> {
        until("no change of a key is under way", async || {
            let keys = self.api.object("keys").await?;
            let keys = keys["items"].as_array().context("no keys")?;
            let believed = keys
                .iter()
                .filter(|key| key["purpose"] == purpose && key["state"] != "retired");
            Ok((believed.count() == 1).then_some(()))
        })
        .await
    }

    /// The hub is killed while it changes the key that signs jobs; started again it goes on with that.
    async fn changes_key(&self, point: &Point) -> Result<()> {
        self.key_is_alone("job").await?;
        self.hub.program().stop().await?;
        let armed = self.armed_hub(point.name)?;
        armed.line("ready").await?;
        let words = ["keys", "rotate", "job", "--overlap", "0s"];
        let asked = self.hub.cli(&words).await?;
        let stepped = point.name == "hub.keys.stepped";
        ensure!(stepped || asked.code != Some(0), "{asked:#?}");
        died(&armed, point).await?;
        self.hub.start_again().await?;
        self.key_is_alone("job").await?;
        self.work().await
    }

    fn armed_hub(&self, wish: &str) -> Result<Arc<Program>> {
        self.hub.start_as(self.hub.serving()?.env(VARIABLE, wish))
    }

    fn armed_runner(&self, wish: &str) -> Result<Arc<Program>> {
        let mut command = self.bridge.command(&["runner"])?;
        self.world.start("runner", command.env(VARIABLE, wish))
    }

    /// A runner is killed in the middle of work, and the next one while it settles what is left.
    async fn recovers(&self, point: &Point) -> Result<()> {
        let run = self.load.submit(&self.api, Task::Slow).await?;
        self.api.attempt_in(&run, "running").await?;
        self.bridge.link()?.kill()?;
        self.bridge.kill_runner().await?;
        // What it had forked and not made a command yet ends by itself, and holds the lock until then.
        let lock = self.bridge.data().join("runner/lock");
        until("the killed runner's lock is free", async || {
            Ok(File::open(&lock)?.try_lock().is_ok().then_some(()))
        })
        .await?;
        let armed = self.armed_runner(point.name)?;
        died(&armed, point).await?;
        self.bridge.start()?;
        self.work().await
    }

    /// The hub is killed while it enrols a bridge.
    async fn hub_enrols(&self, point: &Point) -> Result<()> {
        let (bridge, token) = self.newcomer(point).await?;
        self.hub.program().stop().await?;
        let armed = self.armed_hub(point.name)?;
        armed.line("ready").await?;
        let enrolling = bridge.enroll(&token).await?;
        ensure!(enrolling.code != Some(0), "{enrolling:#?}");
        died(&armed, point).await?;
        self.hub.start_again().await?;
        self.enrolled_at_last(&bridge, &token, point).await
    }

    /// The hub is killed while it moves its secrets to new keys of their projects; it ends that when it is
    /// started again.
    async fn reseals(&self, point: &Point) -> Result<()> {
        self.keep_secret(point).await?;
        self.hub.program().stop().await?;
        let armed = self.armed_hub(point.name)?;
        armed.line("ready").await?;
        let cut_off = self.hub.cli(&["vault", "rotate"]).await?;
        ensure!(cut_off.code != Some(0), "{cut_off:#?}");
        died(&armed, point).await?;
        self.hub.start_again().await?;
        self.secrets_are_good().await
    }

    /// `vault rekey` is killed; whichever key the hub has then opens its vault, and the next one works.
    async fn rekeys(&self, point: &Point) -> Result<()> {
        self.keep_secret(point).await?;
        self.hub.program().stop().await?;
        let mut command = self.hub.command(&["vault", "rekey"])?;
        let armed = self
            .world
            .start("rekey", command.env(VARIABLE, point.name))?;
        died(&armed, point).await?;
        self.hub.start_again().await?;
        self.secrets_are_good().await?;
        self.hub.program().stop().await?;
        let mut again = self.hub.command(&["vault", "rekey"])?;
        self.world.run("rekey", &mut again).await?.succeeded()?;
        self.hub.start_again().await?;
        self.secrets_are_good().await
    }

    async fn keep_secret(&self, point: &Point) -> Result<()> {
        let name = point.name.replace('.', "-");
        add(&self.hub, &name, "token", "deploy").await?;
        let path = format!("credentials/{name}/value");
        let request = self.api.request(Method::POST, &path);
        let set = self.api.send(request.body(name)).await?;
        ensure!(set.status == 200, "{set:?}");
        Ok(())
    }

    async fn secrets_are_good(&self) -> Result<()> {
        let looked = self.hub.cli(&["vault", "verify", "-o", "json"]).await?;
        let found: serde_json::Value = serde_json::from_str(&looked.succeeded()?.stdout)?;
        ensure!(found["good"].as_u64() > Some(0), "{found}");
        Ok(())
    }

    async fn newcomer(&self, point: &Point) -> Result<(Bridge, std::path::PathBuf)> {
        let name = point.name.replace('.', "-");
        let bridge = Bridge::new(&self.world, &name, &name, &Wish::default())?;
        let token = self
            .hub
            .invite(&name, "annex", &format!("{name}.token"))
            .await?;
        Ok((bridge, token))
    }

    /// What an operator does after such an accident: tries again, and where the token is used up, has the
    /// half of a bridge revoked and takes a new one.
    async fn enrolled_at_last(
        &self,
        bridge: &Bridge,
        token: &std::path::Path,
        point: &Point,
    ) -> Result<()> {
        let name = point.name.replace('.', "-");
        let again = bridge.enroll(token).await?;
        let done = again.code == Some(0) || again.stderr.contains("holds an enrolled bridge");
        if !done {
            ensure!(again.stderr.contains("token is not good"), "{again:#?}");
            self.hub
                .cli(&["bridges", "revoke", &name, "--yes"])
                .await?
                .succeeded()?;
            let token = self
                .hub
                .invite(&name, "annex", &format!("{name}-2.token"))
                .await?;
            bridge.enroll(&token).await?.succeeded()?;
        }
        bridge.serve().await?;
        let shown = self.api.object(&format!("bridges/{name}")).await?;
        ensure!(shown["connected"] == true, "{shown}");
        bridge.stop().await
    }
}

/// Waits until the program was killed, and makes sure that its point did it.
async fn died(program: &Program, point: &Point) -> Result<()> {
    let status = until(&format!("{} is reached", point.name), async || {
        Ok(program.ended())
    })
    .await?;
    let told = program
        .stderr()
        .contains(&format!("failpoint {}: Kill", point.name));
    ensure!(
        status.signal() == Some(9) && told,
        "{} ended with {status}, not at {}: {}",
        program.name(),
        point.name,
        program.stderr()
    );
    Ok(())
}

fn renews(point: &Point) -> bool {
    point.name.contains("renew")
}

/// The points of one world, with the times to be killed at.
fn share(number: usize) -> Vec<(Point, u32)> {
    let mut all: Vec<(Point, u32)> = Vec::new();
    for point in points().filter(|point| !ELSEWHERE.contains(&point.name)) {
        let later = if OFTEN.contains(&point.name) {
            LATER
        } else {
            &[]
        };
        all.extend([1].iter().chain(later).map(|nth| (point, *nth)));
    }
    let (renewing, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(point, _)| renews(point));
    if number == 0 {
        return renewing;
    }
    let mine = others
        .into_iter()
        .enumerate()
        .filter(|(at, _)| at % (SHARES - 1) + 1 == number);
    mine.map(|(_, hit)| hit).collect()
}

async fn sweep(number: usize) -> Result<(Vec<&'static str>, Verdicts)> {
    let hits = share(number);
    let place = Place::new(number == 0).await?;
    let mut reached = Vec::new();
    for (point, nth) in hits {
        let began = tokio::time::Instant::now();
        let hit = place.hit(point, nth).await;
        hit.with_context(|| format!("killed at {} the {nth}. time", point.name))?;
        if std::env::var_os("FAULTS_TIMES").is_some() {
            report(&format!(
                "{number} {}:{nth} {:?}",
                point.name,
                began.elapsed()
            ));
        }
        reached.push(point.name);
    }
    let (_, verdicts) = place.load.check(&place.hub).await?;
    place.bridge.stop().await?;
    place.world.passed().await?;
    Ok((reached, verdicts))
}

/// At every point between what is written and what is said, on both sides: whoever is there is killed,
/// under a load of every kind of job, and started again. Each attempt has been started at most once, no
/// verdict contradicts the ledger, no output is missing.
#[tokio::test]
async fn failpoints() -> Result<()> {
    let worlds = tokio::try_join!(sweep(0), sweep(1), sweep(2), sweep(3), sweep(4), sweep(5))?;
    let worlds = [worlds.0, worlds.1, worlds.2, worlds.3, worlds.4, worlds.5];
    let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
    let mut verdicts = Verdicts::new();
    for (names, counts) in worlds {
        for name in names {
            *reached.entry(name).or_default() += 1;
        }
        for (verdict, count) in counts {
            *verdicts.entry(verdict).or_default() += count;
        }
    }
    let all = points().count() - ELSEWHERE.len();
    ensure!(
        reached.len() == all && all >= 40,
        "{} of {all} points were reached",
        reached.len()
    );
    let kills: usize = reached.values().sum();
    let attempts: usize = verdicts.values().sum();
    report(&format!(
        "failpoints: {all} points, {kills} kills, {attempts} attempts: {verdicts:?}"
    ));
    Ok(())
}
