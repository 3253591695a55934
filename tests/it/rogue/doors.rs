//! Strangers and idlers at the hub's doors: handshakes that are never finished, connections that say
//! nothing, protocols that nobody speaks there, floods of streams.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint};
use steward_certs::authority::Authority;
use steward_certs::key::Key;
use steward_certs::tls::{BRIDGE_PROTOCOL, ENROL_PROTOCOL, Holder, bridge_config, enrol_config};
use steward_shared::frame::{Greeting, ToHub};
use steward_shared::id::AttemptId;
use steward_shared::secret::Secret;
use steward_shared::time::{Clock, SystemClock};
use steward_tests::Relay;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::bridge::{MISBEHAVED, REFUSED, REPLACED, RogueBridge, frame, header};
use super::hub::WITHIN;
use super::watch::{MIB, Watch};

async fn watched() -> Result<(Watch, RogueBridge)> {
    let watch = Watch::new().await?;
    let rogue = RogueBridge::enrolled(&watch.world, &watch.hub, "br-wild", "wild").await?;
    Ok((watch, rogue))
}

/// Handshakes that are begun and never finished.
const HALF_OPEN: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_leave_handshakes_half_open() -> Result<()> {
    let (watch, rogue) = watched().await?;
    let share = 64 * 1024;
    let half_open = half_open(&watch, &rogue);
    watch
        .during(
            "half-open handshakes",
            u64::try_from(HALF_OPEN)? * share,
            Box::pin(half_open),
        )
        .await?;
    watch.passed().await
}

async fn half_open(watch: &Watch, rogue: &RogueBridge) -> Result<String> {
    let relay = Relay::new(watch.hub.bridges()).await?;
    relay.cut_answers();
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let tls = rogue.identity.tls(Arc::new(SystemClock))?;
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut begun = Vec::new();
    for number in 0..HALF_OPEN {
        begun.push(endpoint.connect_with(config.clone(), relay.address(), "hub.steward")?);
        if number % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Who finishes the handshake is let in all the while.
    let mut let_in = 0;
    for _ in 0..20 {
        let (mut line, _) = rogue.enter().await?;
        rogue.heard(&mut line).await?;
        let_in += 1;
    }
    drop(begun);
    Ok(format!(
        "{HALF_OPEN} begun; {let_in} others let in meanwhile"
    ))
}

/// Connections that are let in and say nothing.
const IDLE: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_say_nothing() -> Result<()> {
    let (watch, rogue) = watched().await?;
    let silence = silence(&rogue);
    watch
        .during("idle connections", 12 * MIB, Box::pin(silence))
        .await?;
    watch.passed().await
}

async fn silence(rogue: &RogueBridge) -> Result<String> {
    let mut idle = Vec::new();
    while idle.len() < IDLE {
        idle.push(rogue.dial().await?);
    }
    // One that speaks a byte in a second is not let wait longer than one that says nothing.
    let slow = rogue.dial().await?;
    let (mut send, _receive) = slow.open_bi().await?;
    let greeting = Greeting {
        version: "a bridge that takes its time".to_owned(),
    };
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for byte in frame(&ToHub::Greeting(greeting))? {
        tokio::select! {
            _ = second.tick() => (),
            _ = slow.closed() => break,
        }
        send.write_all(&[byte]).await.ok();
    }
    idle.push(slow);
    let (newest, older) = idle.split_last().context("no connection")?;
    let mut replaced = 0;
    for connection in older {
        let closed = tokio::time::timeout(WITHIN, connection.closed()).await?;
        // On a slow machine the next one may come after the time for a Hello.
        let code = code(&closed);
        let ended = code == Some(REPLACED) || code == Some(MISBEHAVED);
        ensure!(ended, "{closed}");
        replaced += usize::from(code == Some(REPLACED));
    }
    ensure!(replaced > IDLE / 2, "{replaced} of {IDLE} were replaced");
    let closed = tokio::time::timeout(WITHIN, newest.closed()).await?;
    ensure!(code(&closed) == Some(MISBEHAVED), "{closed}");
    Ok(format!(
        "{} connections, {replaced} closed for the next one, the last for its silence",
        idle.len()
    ))
}

fn code(closed: &ConnectionError) -> Option<u64> {
    let ConnectionError::ApplicationClosed(close) = closed else {
        return None;
    };
    Some(close.error_code.into_inner())
}

/// Rounds of streams.
const ROUNDS: usize = 10;

/// Streams of one round: what QUIC surely gives a bridge that may have 1024, because it says only of every
/// eighth of them that there is room again.
const STREAMS: usize = 1024 / 8 * 7;

#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_flood_streams() -> Result<()> {
    let (watch, rogue) = watched().await?;
    watch
        .during("flooding streams", 12 * MIB, Box::pin(streams(&rogue)))
        .await?;
    watch.passed().await
}

async fn streams(rogue: &RogueBridge) -> Result<String> {
    let (mut line, _) = rogue.enter().await?;
    let mut count = 0;
    for _ in 0..ROUNDS {
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let opened = tokio::time::timeout(WITHIN, line.connection.open_uni()).await;
            let mut stream = opened.context("the hub gives no more streams")??;
            stream.write_all(&header(AttemptId::random(), 0)?).await?;
            open.push(stream);
        }
        rogue.heard(&mut line).await?;
        count += open.len();
        for stream in &mut open {
            // A reset would be faster than the header, and that is what comes below.
            stream.finish()?;
        }
    }
    rogue.heard(&mut line).await?;
    for round in 0..ROUNDS {
        let (line, _) = rogue.enter().await?;
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let opened = tokio::time::timeout(WITHIN, line.connection.open_uni()).await;
            let Ok(mut stream) = opened.context("the hub gives no more streams")? else {
                break;
            };
            // Nothing is known of a stream before a frame of it is sent.
            stream.write_all(&[7]).await.ok();
            stream.reset(7_u32.into()).ok();
            streams.push(stream);
        }
        count += streams.len();
        line.closes(MISBEHAVED, &format!("streams without a header, {round}"))
            .await?;
    }
    Ok(format!("{count} streams opened, and ended or reset"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_knock_at_wrong_doors() -> Result<()> {
    let (watch, rogue) = watched().await?;
    watch
        .during("wrong doors", 12 * MIB, Box::pin(knock(&watch, &rogue)))
        .await?;
    watch.passed().await
}

/// How a connection with this TLS ends: in its handshake, or by a code.
async fn ending(watch: &Watch, tls: rustls::ClientConfig) -> Result<Option<u64>> {
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let connecting = endpoint.connect_with(config, watch.hub.bridges(), "hub.steward")?;
    match tokio::time::timeout(WITHIN, connecting).await? {
        Err(_) => Ok(None),
        Ok(connection) => {
            let closed = tokio::time::timeout(WITHIN, connection.closed()).await?;
            Ok(code(&closed))
        }
    }
}

async fn knock(watch: &Watch, rogue: &RogueBridge) -> Result<String> {
    let clock = || Arc::new(SystemClock) as Arc<dyn Clock>;
    let bridge = |protocols: &[&[u8]]| -> Result<rustls::ClientConfig> {
        let mut tls = rogue.identity.tls(clock())?;
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(tls)
    };
    let mut nobody = enrol_config(rogue.identity.pins[0], clock())?;
    nobody.alpn_protocols = vec![BRIDGE_PROTOCOL.to_vec()];
    let expected = [
        ("h3", bridge(&[b"h3"])?, None),
        ("http/1.1", bridge(&[b"http/1.1"])?, None),
        ("steward/2", bridge(&[b"steward/2"])?, None),
        (
            "a bridge that would be enrolled",
            bridge(&[ENROL_PROTOCOL])?,
            Some(REFUSED),
        ),
        ("nobody as a bridge", nobody, Some(REFUSED)),
        ("a hub as a bridge", of_hub(watch, rogue)?, None),
    ];
    let count = expected.len();
    for (what, tls, wanted) in expected {
        let ended = ending(watch, tls).await?;
        ensure!(ended == wanted, "{what}: {ended:?}");
    }
    let no_protocol = ending(watch, bridge(&[])?).await?;
    ensure!(
        no_protocol.is_none_or(|code| code == REFUSED),
        "{no_protocol:?}"
    );
    let datagrams = datagrams(watch).await?;
    let api = frames_to_the_api(watch).await?;
    Ok(format!(
        "{} handshakes, {datagrams} datagrams, {api} frames to the API",
        count + 1
    ))
}

/// The hub's own certificate, shown as if it were a bridge's.
fn of_hub(watch: &Watch, rogue: &RogueBridge) -> Result<rustls::ClientConfig> {
    let keys = watch.hub.data().join("keys");
    let authority = std::fs::read_to_string(keys.join("ca.crt"))?;
    let secret = Secret::new(std::fs::read(keys.join("ca.key"))?);
    let authority = Authority::load(&authority, &secret)?;
    let key = Key::generate()?;
    let hour = Duration::from_secs(3600);
    let certificate = authority.issue_hub(&key, &[], SystemClock.now(), hour)?;
    let own = Holder {
        key: &key,
        certificate: &certificate,
        authorities: std::slice::from_ref(authority.certificate_der()),
    };
    Ok(bridge_config(
        &rogue.identity.pins,
        rogue.identity.cluster,
        own,
        Arc::new(SystemClock),
    )?)
}

/// Datagrams that are not QUIC, or not of any connection.
async fn datagrams(watch: &Watch) -> Result<usize> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
    socket.connect(watch.hub.bridges()).await?;
    let mut mutator = steward_tests::Mutator::new(7);
    let long = [&[0xc3, 0, 0, 0, 1, 8][..], &[7; 1194]].concat();
    let kinds: [&[u8]; 5] = [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", &[0x40; 40], &long];
    let mut count = 0;
    for number in 0..5_000 {
        let kind = kinds[number % kinds.len()];
        let bytes = if number < kinds.len() {
            kind.to_vec()
        } else {
            mutator.changed(kind, &long)
        };
        socket.send(&bytes).await?;
        count += 1;
    }
    Ok(count)
}

/// What a bridge says, to the port of clients.
async fn frames_to_the_api(watch: &Watch) -> Result<usize> {
    let greeting = frame(&ToHub::Greeting(Greeting {
        version: "rogue".to_owned(),
    }))?;
    let count = 100;
    for _ in 0..count {
        let mut stream = TcpStream::connect(watch.hub.web()).await?;
        stream.write_all(&greeting).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(WITHIN, stream.read_to_end(&mut answer)).await;
        // An alert, or nothing but the end.
        read.context("the API waits for more")?.ok();
        ensure!(answer.len() < 64, "the API has answered: {answer:?}");
    }
    Ok(count)
}
