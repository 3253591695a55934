//! Offers queued jobs to connected bridges. Woken by signal or timer, it reads the truth from the store.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde_json::json;
use steward_shared::action::ActionKind;
use steward_shared::codec;
use steward_shared::failpoint;
use steward_shared::frame::{self, ToBridge};
use steward_shared::id::{AttemptId, BridgeId, CredentialId, RunId, SiteId};
use steward_shared::job::{Job, OnDisconnect, OnFull};
use steward_shared::limits::{CLOCK_SKEW_MAX, FRAME_BYTES_MAX, RECORD_HEADER_BYTES};
use steward_shared::proof::Proof;
use steward_shared::random::Random;
use steward_shared::sign::Signed;
use steward_shared::stop::Stop;
use steward_shared::template::Executor;
use steward_shared::time::Timestamp;

use super::Flow;
use super::approvals::Agreed;
use super::bell::Bells;
use super::content::{Content, template_ref};
use super::documents::manifest_of;
use super::error::FlowError;
use super::roster::{Present, Roster};
use super::rotation;
use super::signatures::{beside, proof};
use super::transition;
use crate::limits::{LOOK_EVERY, OFFER_BATCH, OFFERED_AT_ONCE};
use crate::model::job::JobState;
use crate::model::run::RunState;
use crate::store::{Event, JobRow, NewAttempt, RunRow, StoreError, Tx};
use crate::vault::Vault;

/// Runs until told to stop.
pub async fn run(flow: Flow, stop: Stop) {
    loop {
        loop {
            match offer_batch(&flow).await {
                Ok(0) => break,
                Ok(offered) => tracing::debug!(offered, "offered jobs"),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot offer jobs"
                    );
                    break;
                }
            }
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = flow.queued.notified() => (),
            () = flow.roster.changed() => (),
            () = tokio::time::sleep(LOOK_EVERY) => (),
        }
    }
}

/// The bridges that may be offered jobs, by site.
type Free = BTreeMap<SiteId, Vec<(BridgeId, Present)>>;

/// Offers what can be offered right now; how many jobs that were.
///
/// # Errors
/// When the store or the vault fails.
pub async fn offer_batch(flow: &Flow) -> Result<usize, FlowError> {
    let (roster, now) = (Arc::clone(&flow.roster), flow.now());
    let waiting = flow
        .store
        .read(move |tx| {
            for site in waiting(tx, &roster, now)?.keys() {
                if !tx.jobs_to_offer(*site, now, 1)?.is_empty() {
                    return Ok::<_, FlowError>(true);
                }
            }
            Ok(false)
        })
        .await?;
    if !waiting {
        return Ok(0);
    }
    let offering = flow.offering();
    let sender = flow.sender();
    let offers = flow
        .store
        .write_then(
            move |tx| offering.offer(tx),
            move |offers| sender.send(offers),
        )
        .await?;
    Ok(offers.len())
}

/// A job that is offered once its transaction is on disk.
#[derive(Debug)]
pub(super) struct Offer {
    run: RunId,
    /// To whom; nothing for a job that has ended instead.
    to: Option<(BridgeId, frame::Offer)>,
}

/// What offers are made with, and to whom they may go.
pub(super) struct Offering {
    vault: Arc<Vault>,
    random: Arc<dyn Random>,
    now: Timestamp,
    roster: Arc<Roster>,
}

impl Offering {
    /// Offers what can be offered.
    fn offer(self, tx: &mut Tx<'_>) -> Result<Vec<Offer>, FlowError> {
        let maker = Maker {
            vault: &self.vault,
            random: &*self.random,
            now: self.now,
        };
        let free = waiting(tx, &self.roster, self.now)?;
        offer_all(tx, &maker, free)
    }

    /// Offers jobs in the very transaction that makes their run, when it is a small one and nothing else
    /// waits: that saves a commit and a turn of the dispatching loop.
    pub(super) fn offer_now(self, tx: &mut Tx<'_>, run: &RunRow) -> Result<Vec<Offer>, FlowError> {
        if run.state != RunState::Running || run.counts.queued > OFFERED_AT_ONCE {
            return Ok(Vec::new());
        }
        let mut queued = 0;
        for site in waiting(tx, &self.roster, self.now)?.keys() {
            queued += tx
                .jobs_to_offer(*site, self.now, OFFERED_AT_ONCE + 1)?
                .len();
        }
        if u32::try_from(queued).is_ok_and(|queued| queued <= run.counts.queued) {
            self.offer(tx)
        } else {
            Ok(Vec::new())
        }
    }
}

impl Flow {
    /// Offers as they can be made now.
    pub(super) fn offering(&self) -> Offering {
        Offering {
            vault: Arc::clone(&self.vault),
            random: Arc::clone(&self.random),
            now: self.now(),
            roster: Arc::clone(&self.roster),
        }
    }

    /// What sends them.
    pub(super) fn sender(&self) -> Sender {
        Sender {
            roster: Arc::clone(&self.roster),
            runs: Arc::clone(&self.runs),
        }
    }
}

/// Sends offers whose transaction is on disk, in the order of the transactions: a bridge refuses what is
/// older than what it has seen.
pub(super) struct Sender {
    roster: Arc<Roster>,
    runs: Arc<Bells<RunId>>,
}

impl Sender {
    pub(super) fn send(&self, offers: &[Offer]) {
        for offer in offers {
            if let Some((bridge, offer)) = &offer.to {
                // A bridge that has gone meanwhile gets the offer again when it is back.
                failpoint!("hub.offer.before");
                let frame = ToBridge::Offer(offer.clone());
                self.roster.send(*bridge, frame);
                failpoint!("hub.offer.after");
            }
            self.runs.ring(offer.run);
        }
    }
}

/// The sites where jobs wait and bridges are free. Most of the time no run has a job to offer, and then neither
/// the queue is looked through nor the roster, however long they are.
fn waiting(tx: &mut Tx<'_>, roster: &Roster, now: Timestamp) -> Result<Free, StoreError> {
    if !tx.any_run_to_offer(now)? {
        return Ok(Free::new());
    }
    let sites = tx.sites_with_queued()?;
    Ok(roster.free_at(&sites))
}

/// What every offer of a batch is made with.
struct Maker<'a> {
    vault: &'a Vault,
    random: &'a dyn Random,
    now: Timestamp,
}

/// What the jobs of a run share.
struct Shared {
    run: RunRow,
    content: Content,
    /// What the template's authors have signed.
    proof: Option<Box<Proof>>,
    /// What people have agreed to.
    agreed: Option<Agreed>,
}

fn offer_all(tx: &mut Tx<'_>, maker: &Maker<'_>, free: Free) -> Result<Vec<Offer>, FlowError> {
    let mut offers = Vec::new();
    let mut runs: BTreeMap<RunId, Shared> = BTreeMap::new();
    // Each site gets its share of the batch, and not always the same ones come first.
    let share = (OFFER_BATCH / free.len().max(1)).max(1);
    let limit = u32::try_from(share).unwrap_or(u32::MAX);
    let turn = usize::try_from(maker.now.as_millis()).unwrap_or(0) % free.len().max(1);
    let mut sites: Vec<_> = free.into_iter().collect();
    sites.rotate_left(turn);
    for (site, bridges) in sites {
        if offers.len() >= OFFER_BATCH {
            break;
        }
        let mut places = Vec::new();
        for (id, present) in bridges {
            places.push((tx.open_of(id)?, id, present));
        }
        for job in tx.jobs_to_offer(site, maker.now, limit)? {
            if places
                .iter()
                .all(|(open, _, present)| *open >= present.concurrent)
            {
                break;
            }
            let shared = match runs.entry(job.run) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(shared(tx, job.run)?),
            };
            let run = &shared.run;
            if run.counts.active >= run.at_once || run.has_failed_enough() {
                continue;
            }
            let kind = kind(shared.content.manifest.executor);
            // A bridge with a policy before one without, then the one with the fewest open attempts.
            let place = places
                .iter_mut()
                .filter(|(open, _, present)| {
                    *open < present.concurrent && present.executors.contains(&kind)
                })
                .min_by_key(|(open, id, present)| (present.policy.is_none(), *open, *id));
            let Some((open, bridge, present)) = place else {
                continue;
            };
            let Some(signed) = offer(tx, maker, shared, &job, *bridge, present)? else {
                transition::end_changed(tx, &job, &mut shared.run, maker.now)?;
                offers.push(Offer {
                    run: job.run,
                    to: None,
                });
                continue;
            };
            shared.run.counts.shift(JobState::Queued, JobState::Active);
            *open += 1;
            let offer = frame::Offer {
                job: signed,
                proof: beside(shared.proof.clone(), shared.agreed.as_ref(), job.position),
            };
            offers.push(Offer {
                run: job.run,
                to: Some((*bridge, offer)),
            });
        }
    }
    for shared in runs.values() {
        transition::finish_run(tx, shared.run.id, &shared.run.counts, maker.now)?;
    }
    Ok(offers)
}

fn shared(tx: &mut Tx<'_>, run: RunId) -> Result<Shared, FlowError> {
    let run = tx.run(&run.to_string())?.ok_or(StoreError::Corrupt {
        table: "jobs",
        column: "run",
    })?;
    let template = tx
        .template_by_id(run.template)?
        .ok_or(StoreError::Corrupt {
            table: "runs",
            column: "template",
        })?;
    let manifest = manifest_of(&template)?;
    let values = serde_json::from_str(&run.inputs).map_err(|_| StoreError::Corrupt {
        table: "runs",
        column: "inputs",
    })?;
    let login = match run.credential {
        Some(id) => tx.credential_shown(id)?,
        None => None,
    };
    let secrets = tx.run_secrets(run.id)?;
    let files = tx.run_artifacts(run.id)?;
    // What a change of a credential proves is proven by a sign-in of its own.
    let shares = run.rotation.is_none() && shares(tx, run.credential)?;
    let proof = proof(tx, &template)?;
    let agreed = Agreed::of(tx, run.id)?;
    let content = Content {
        project: run.project_name.clone(),
        template: template_ref(&template, &manifest),
        manifest,
        values,
        login,
        secrets,
        files,
        shares,
        probes: run.probe,
    };
    Ok(Shared {
        run,
        content,
        proof,
        agreed,
    })
}

/// Whether connections may be shared that are signed in with a credential: not where its value is another for each
/// attempt, or may change elsewhere without anybody knowing it here.
pub(super) fn shares(tx: &mut Tx<'_>, login: Option<CredentialId>) -> Result<bool, FlowError> {
    let Some(id) = login else {
        return Ok(false);
    };
    let Some(credential) = tx.credential(&id.to_string())? else {
        return Ok(false);
    };
    Ok(!credential.is_outside() && !rotation::after_use(&credential)?)
}

/// Offers a job, unless it would do something else than it was shown to.
fn offer(
    tx: &mut Tx<'_>,
    maker: &Maker<'_>,
    shared: &Shared,
    row: &JobRow,
    bridge: BridgeId,
    present: &Present,
) -> Result<Option<Signed<Job>>, FlowError> {
    let now = maker.now;
    let (run, content) = (&shared.run, &shared.content);
    let (target, action) = content.on(tx, row.target)?;
    let rendered = content.rendered(&target, &action).sha256();
    if row
        .rendered
        .as_ref()
        .is_some_and(|shown| *shown != rendered.to_string())
    {
        return Ok(None);
    }
    let attempt = AttemptId::from_bytes(maker.random.bytes());
    let (fence, seq) = (tx.next_fence()?, tx.next_seq(bridge)?);
    let job = Job {
        cluster: maker.vault.cluster(),
        run: run.id,
        job: row.id,
        attempt,
        number: row.attempts + 1,
        fence,
        bridge,
        bridge_key: present.receipt_key,
        journal: present.journal,
        seq,
        issued_at: now,
        not_before: now.before(CLOCK_SKEW_MAX),
        not_after: run.expires_at,
        runtime_ms: content.manifest.timeout_ms,
        project: run.project_name.clone(),
        template: content.template.clone(),
        target,
        login: content.login.clone(),
        secrets: content.secrets.clone(),
        action,
        readings: content.does().1.to_vec(),
        files: content.files.clone(),
        limits: content.limits(),
        on_disconnect: OnDisconnect::Continue,
        on_full: OnFull::Block,
        rendered,
        requester: run.requester.clone(),
        reason: run.reason.clone(),
        ticket: run.ticket.clone(),
    };
    let signed = maker.vault.sign(&job)?;
    let new = NewAttempt {
        id: attempt,
        job: row.id,
        run: run.id,
        number: job.number,
        fence,
        bridge,
        journal: present.journal,
        seq,
        envelope: codec::encode(&signed, FRAME_BYTES_MAX)
            .map_err(crate::vault::VaultError::Codec)?,
        runtime_ms: job.runtime_ms,
        not_after: run.expires_at,
        // Every byte in a record of its own is the worst that an honest bridge can make of it.
        log_bytes_max: job.limits.output_bytes * (RECORD_HEADER_BYTES + 1),
        rendered,
    };
    tx.add_attempt(&new, now)?;
    tx.change_job(row.id, JobState::Queued, JobState::Active, "", job.number)?;
    record(tx, &new, present, now)?;
    Ok(Some(signed))
}

fn record(
    tx: &mut Tx<'_>,
    new: &NewAttempt,
    present: &Present,
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("state".to_owned(), json!("offered"));
    detail.insert("bridge".to_owned(), json!(present.name));
    detail.insert("rendered".to_owned(), json!(new.rendered.to_string()));
    let event = Event {
        actor: "hub".to_owned(),
        action: "attempt.offered",
        object: new.id.to_string(),
        run: Some(new.run),
        owner: Some("hub"),
        fence: Some(new.fence),
        bridge_time: None,
        detail,
    };
    Ok(tx.record(now, &event)?)
}

const fn kind(executor: Executor) -> ActionKind {
    match executor {
        Executor::Local => ActionKind::Local,
        Executor::Ssh => ActionKind::Ssh,
        Executor::Sql => ActionKind::Sql,
        Executor::Telnet => ActionKind::Telnet,
        Executor::Http => ActionKind::Http,
    }
}
