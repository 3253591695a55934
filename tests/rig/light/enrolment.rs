//! Enrolling many bridges: each by a token of its own and with its own keys, several at one time. A hub lets an
//! address enrol a few in a minute, and so they come from many addresses of the loopback.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use quinn::Endpoint;
use serde_json::json;
use steward_bridge::link::identity::Identity;
use steward_bridge::link::transport;
use steward_certs::enrol::{EnrolAnswer, EnrolRequest, Token};
use steward_certs::key::Key;
use steward_certs::tls::enrol_config;
use steward_hub::limits::ENROL_PER_MINUTE;
use steward_shared::limits::ENROL_BYTES_MAX;
use steward_shared::sign::SigningKey;
use steward_shared::time::SystemClock;
use steward_shared::trust::Trusted;
use tokio::task::JoinSet;

use super::super::api::Api;
use super::super::hub::Hub;

/// Addresses that enrol at one time.
const AT_ONCE: usize = 16;

/// How many addresses this process has used.
static ADDRESSES: AtomicUsize = AtomicUsize::new(0);

const WITHIN: Duration = Duration::from_secs(60);

/// An enrolled bridge.
#[derive(Debug)]
pub(super) struct Enrolled {
    pub(super) identity: Identity,
    pub(super) receipts: SigningKey,
    pub(super) trusted: Trusted,
}

/// Enrols so many bridges, spread over these sites.
pub(super) async fn enrol(
    hub: &Hub,
    begin: &str,
    sites: &[String],
    count: usize,
) -> Result<Vec<Enrolled>> {
    let each = usize::try_from(ENROL_PER_MINUTE)?;
    let names: Vec<(String, String)> = sites
        .iter()
        .cycle()
        .take(count)
        .enumerate()
        .map(|(number, site)| (format!("{begin}-b{number}"), site.clone()))
        .collect();
    let (mut groups, mut working) = (names.chunks(each).enumerate(), JoinSet::new());
    let mut done = Vec::new();
    loop {
        while working.len() < AT_ONCE
            && let Some((number, group)) = groups.next()
        {
            let (api, group) = (hub.api()?, group.to_vec());
            working.spawn(async move {
                Ok::<_, anyhow::Error>((number, enrol_group(&api, &group).await?))
            });
        }
        let Some(enrolled) = working.join_next().await else {
            break;
        };
        done.push(enrolled??);
    }
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().flat_map(|(_, group)| group).collect())
}

/// Enrols what one address may.
async fn enrol_group(api: &Api, names: &[(String, String)]) -> Result<Vec<Enrolled>> {
    let number = ADDRESSES.fetch_add(1, Ordering::Relaxed);
    let (high, low) = (u8::try_from(number / 250)?, u8::try_from(number % 250 + 1)?);
    let endpoint = Endpoint::client((Ipv4Addr::new(127, 100, high, low), 0).into())?;
    let mut enrolled = Vec::with_capacity(names.len());
    for (name, site) in names {
        let asked = json!({ "name": name, "site": site });
        let made = api.make("bridges/enrolments", &asked).await?;
        let token = made.get("token").and_then(|token| token.as_str());
        let token: Token = token.context("no token")?.parse()?;
        let one = tokio::time::timeout(WITHIN, enrol_one(&endpoint, &token, name)).await;
        enrolled.push(one.with_context(|| format!("{name} was not enrolled"))??);
    }
    endpoint.wait_idle().await;
    Ok(enrolled)
}

async fn enrol_one(endpoint: &Endpoint, token: &Token, name: &str) -> Result<Enrolled> {
    let (key, receipts) = (
        Key::generate()?,
        SigningKey::from_seed(&SigningKey::new_seed()?)?,
    );
    let request = EnrolRequest::new(token, name, key.request()?, &receipts, "light")?.encode()?;
    let tls = enrol_config(token.pin(), Arc::new(SystemClock))?;
    let hub = token
        .hub()
        .first()
        .context("a token without a hub")?
        .parse()?;
    let connecting = endpoint.connect_with(transport::client(tls)?, hub, "hub.steward")?;
    let connection = connecting.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&request).await?;
    send.finish()?;
    let answer = receive.read_to_end(ENROL_BYTES_MAX).await?;
    connection.close(0_u8.into(), b"done");
    match EnrolAnswer::decode(&answer)? {
        EnrolAnswer::Refused { message, .. } => bail!("{name} was refused: {message}"),
        EnrolAnswer::Enrolled(enrolment) => {
            enrolment.verify(&token.pin(), &key.pin())?;
            Ok(Enrolled {
                identity: Identity::new(&enrolment, token.pin(), key),
                receipts,
                trusted: enrolment.trusted()?,
            })
        }
    }
}
