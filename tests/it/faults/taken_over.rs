//! A link that somebody else has taken over: it has the link's user and speaks the runner's own frames,
//! and cannot sign.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use steward_bridge::wire;
use steward_shared::codec;
use steward_shared::frame::{
    Ack, Cancel, Challenge, Hello, Permit, PermitRefused, ToBridge, ToHub, ToLink, ToRunner,
    Welcome,
};
use steward_shared::id::AttemptId;
use steward_shared::job::Job;
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::secret::Secret;
use steward_shared::sign::{Signed, SigningKey};
use steward_shared::time::{Clock, SystemClock};
use steward_tests::{Bridge, Hub, Ledger, Wish, World, as_user, is_alive, report, script, until};
use tokio::net::UnixStream;

use super::load::{SETTLED_WITHIN, counting, lines};
use super::privileges::LINK;

struct Rogue {
    socket: UnixStream,
    key: SigningKey,
}

impl Rogue {
    /// Takes the link's place, as far as that goes: the runner answers the challenge.
    async fn new(bridge: &Bridge) -> Result<(Self, Hello)> {
        let path = bridge.data().join("runner.sock");
        let socket = as_user(LINK, || Ok(std::os::unix::net::UnixStream::connect(path)?))?;
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        let key = SigningKey::from_seed(&SigningKey::new_seed()?)?;
        let mut rogue = Self { socket, key };
        let receipt_key = fs::read(bridge.data().join("runner/receipt.key"))?;
        let receipts = SigningKey::from_seed(&Secret::new(receipt_key))?.public();
        let receipts = steward_shared::sign::Verifier::new(&receipts)?;
        let hub_time = SystemClock.now();
        let nonce = [7; 16];
        rogue
            .send(ToBridge::Challenge(Challenge { nonce, hub_time }))
            .await?;
        let hello = loop {
            if let ToLink::Hub(ToHub::Hello(hello)) = wire::read(&mut rogue.socket).await? {
                break hello.verify([&receipts])?;
            }
        };
        Ok((rogue, hello))
    }

    async fn send(&mut self, frame: ToBridge) -> Result<()> {
        Ok(wire::write(&mut self.socket, &ToRunner::Hub(frame)).await?)
    }

    /// The runner has taken everything before when it answers another challenge.
    async fn heard(&mut self) -> Result<()> {
        let challenge = Challenge {
            nonce: [9; 16],
            hub_time: SystemClock.now(),
        };
        self.send(ToBridge::Challenge(challenge)).await?;
        loop {
            match wire::read(&mut self.socket).await? {
                ToLink::Hub(ToHub::Hello(_)) => return Ok(()),
                ToLink::Hub(ToHub::Receipt(_) | ToHub::Status(_) | ToHub::ConnectionClosed(_))
                | ToLink::File { .. }
                | ToLink::FileEnded(_)
                | ToLink::Roots(_) => {}
                ToLink::Output(piece) => drop(wire::read_chunk(&mut self.socket, piece).await?),
                ToLink::Hub(ToHub::Greeting(_) | ToHub::Renew(_)) => bail!("a frame of the link's"),
            }
        }
    }
}

/// An offer that the hub itself has signed, as whoever holds the network could keep it.
fn genuine_offer(hub: &Hub, attempt: &str) -> Result<Signed<Job>> {
    let database = rusqlite::Connection::open(hub.data().join("hub.db"))?;
    let sql = "SELECT envelope FROM attempts WHERE id = ?1";
    let envelope: Vec<u8> = database.query_row(sql, [attempt], |row| row.get(0))?;
    Ok(codec::decode(&envelope, FRAME_BYTES_MAX)?)
}

fn files(bridge: &Bridge) -> Result<Vec<Vec<u8>>> {
    let names = [
        "bridge-policy.toml",
        "runner/trust.json",
        "runner/receipt.key",
    ];
    let files = names.iter().map(|name| fs::read(bridge.data().join(name)));
    Ok(files.collect::<std::io::Result<_>>()?)
}

/// Everything that only a hub may say of an attempt, signed with a key of one's own.
fn forge(
    key: &SigningKey,
    hello: &Hello,
    job: &Job,
    attempt: AttemptId,
    fence: u64,
) -> Result<Vec<ToBridge>> {
    let (cluster, bridge, nonce) = (hello.cluster, hello.bridge, hello.nonce);
    let permit = Permit {
        cluster,
        bridge,
        attempt,
        fence,
        nonce,
        valid_for_ms: 10_000,
        released: Vec::new(),
        connection: None,
    };
    let refused = PermitRefused {
        cluster,
        bridge,
        attempt,
        fence,
        nonce,
        reason: String::new(),
    };
    let cancel = Cancel {
        cluster,
        bridge,
        attempt,
        fence,
    };
    let ack = Ack {
        cluster,
        bridge,
        attempt,
        fence,
        through: u64::MAX,
        settled: true,
    };
    Ok(vec![
        ToBridge::Offer(Signed::new(job, key)?.into()),
        ToBridge::Permit(Signed::new(&permit, key)?),
        ToBridge::PermitRefused(Signed::new(&refused, key)?),
        ToBridge::Cancel(Signed::new(&cancel, key)?),
        ToBridge::Ack(Signed::new(&ack, key)?),
    ])
}

/// With the link's user, with every frame that a link can say, signed by a key of its own where something must be signed, and with
/// an offer that the hub has really signed, a rogue in the link's place starts nothing, ends nothing, drops
/// no output, and changes neither policy nor trust.
#[tokio::test]
async fn link_taken_over() -> Result<()> {
    let world = World::new()?;
    for expected in ["nobody trusted has signed", "the runner has ended"] {
        world.expect_error(expected);
    }
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    let wish = Wish {
        user: Some(LINK),
        ..Wish::default()
    };
    let bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    let mut ledger = Ledger::new(&world);
    let gate = world.at("gate");
    let text = format!(
        "{}\n{}\nwhile [ ! -e {gate} ]; do sleep 0.1; done",
        ledger.line(),
        counting(500, ":")
    );
    hub.apply(&script("gated", "dmz", "", &text)).await?;
    ledger.prints("gated", &lines(500));
    let api = hub.api()?;
    let run = api.run("gated").await?;
    let shown = api.attempt_in(&run, "running").await?;
    let attempt = shown["id"].as_str().context("no id")?;
    let offer = genuine_offer(&hub, attempt)?;
    let (before, runner) = (files(&bridge)?, bridge.runner().await?);
    let link = bridge.link_apart(None).await?;
    bridge.link()?.kill()?;
    until("the link has died too", async || {
        Ok((!is_alive(link)).then_some(()))
    })
    .await?;

    let (mut rogue, hello) = Rogue::new(&bridge).await?;
    let id: AttemptId = attempt.parse()?;
    let open = hello.open.iter().find(|open| open.attempt == id);
    let fence = open.context("the runner has it open")?.fence;
    let hub_time = SystemClock.now();
    let have = vec![(id, u64::MAX), (AttemptId::random(), 0)];
    rogue
        .send(ToBridge::Welcome(Welcome { hub_time, have }))
        .await?;
    rogue.send(ToBridge::Offer(offer.clone().into())).await?;
    let trusted = hub.data().join("keys/job.key");
    let trusted = SigningKey::from_seed(&Secret::new(fs::read(trusted)?))?.public();
    let mut job = offer.verify([&steward_shared::sign::Verifier::new(&trusted)?])?;
    (job.attempt, job.seq, job.fence) = (AttemptId::random(), hello.seq + 1, fence + 1);
    let (key, other) = (&rogue.key, job.attempt);
    let mut forged = forge(key, &hello, &job, id, fence)?;
    forged.extend(forge(key, &hello, &job, other, fence + 1)?);
    let count = forged.len();
    for frame in forged {
        rogue.send(frame).await?;
    }
    rogue.heard().await?;
    ensure!(files(&bridge)? == before, "policy or trust has changed");
    ensure!(bridge.runner().await? == runner, "the runner has ended");
    drop(rogue);

    bridge.serve().await?;
    fs::write(&gate, "")?;
    let tried = ledger.settled(&hub, SETTLED_WITHIN).await?;
    let verdicts = ledger.check(&hub, &tried).await?;
    ensure!(verdicts.keys().eq(["succeeded"].iter()), "{verdicts:?}");
    ensure!(ledger.executions()?.len() == 1, "something was started");
    report(&format!(
        "link_taken_over: {count} forged frames and a repeated offer, {verdicts:?}"
    ));
    bridge.stop().await?;
    world.passed().await
}
