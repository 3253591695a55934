//! The gate: the one function through which a job comes in, on every path.
//!
//! Cheap and fatal checks first: the signature before anything is parsed, then whether the job is
//! meant for this bridge and this journal, then time, replay, the operator's lock and the policy.

use steward_shared::action::Action;
use steward_shared::cause::chain;
use steward_shared::failpoint;
use steward_shared::frame::{Refusal, Released};
use steward_shared::id::{JournalId, LeaseId};
use steward_shared::job::{Digest, Job};
use steward_shared::limits::CLOCK_SKEW_MAX;
use steward_shared::proof::Proof;
use steward_shared::rendered::{Parts, Rendered};
use steward_shared::sign::{Payload, SignError, Signed};
use steward_shared::time::Timestamp;

use super::session::{Offered, Uses};
use super::trust::Trust;
use crate::limits::DISK_RESERVE_BYTES;
use crate::policy::{Admission, Load, Policy, PolicyError, used};

/// A job that the gate has let in.
#[derive(Debug)]
pub struct Admitted {
    /// What was signed.
    pub job: Job,
    /// What people have signed of it.
    pub proof: Option<Box<Proof>>,
    /// What the policy made of it.
    pub admission: Admission,
    /// SHA-256 of the signed body.
    pub body: Digest,
    /// The credentials that came with the permit.
    pub released: Vec<Released>,
    /// The lease of the connection that the permit puts it on.
    pub connection: Option<LeaseId>,
}

impl Admitted {
    /// Whether something must be made ready before the permit is asked for.
    pub const fn prepares(&self) -> bool {
        match self.job.action {
            Action::Ssh(_) | Action::Sql(_) | Action::Telnet(_) | Action::Http(_) => true,
            Action::Local(_) | Action::HostKeys(_) => self.job.needs_credentials(),
        }
    }
}

/// What the gate knows besides the job.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who this bridge is.
    pub trust: &'a Trust,
    /// Its journal.
    pub journal: JournalId,
    /// The policy in force, or why there is none.
    pub policy: Result<&'a Policy, &'a PolicyError>,
    /// Locked by its own operator.
    pub locked: bool,
    /// Bytes that the disk under its data has left.
    pub room: u64,
    /// What it is busy with.
    pub load: Load,
    /// Approved jobs that it has started.
    pub uses: &'a Uses,
    /// Its wall clock.
    pub now: Timestamp,
}

/// Verifies a job's signature. Nothing of it is parsed unless a trusted key has signed it.
///
/// # Errors
/// [`SignError`]; there is nobody to answer then.
pub fn verify(signed: &Signed<Job>, trust: &Trust) -> Result<Job, SignError> {
    failpoint!("runner.offer.read");
    signed.verify(trust.trusted.job_keys())
}

/// A message of the hub about an attempt, if a trusted key has signed it for its purpose.
pub fn believed<T: Payload>(signed: &Signed<T>, trust: &Trust) -> Option<T> {
    match signed.verify(trust.trusted.job_keys()) {
        Ok(message) => Some(message),
        Err(error) => {
            tracing::error!(
                kind = T::TYPE,
                error = &error as &dyn std::error::Error,
                "dropped a message that nobody trusted has signed"
            );
            None
        }
    }
}

/// What an offer says of its attempt.
pub const fn offered(job: &Job) -> Offered {
    Offered {
        attempt: job.attempt,
        job: job.job,
        fence: job.fence,
        seq: job.seq,
        not_after: job.not_after,
        on_disconnect: job.on_disconnect,
    }
}

/// Lets a verified job in, or says which clause keeps it out. With it comes the digest of its signed body.
///
/// `replay` is what the session's marks say of it.
///
/// # Errors
/// The refusal, as the hub and its users will see it.
pub fn admit(
    (job, body): (Job, Digest),
    proof: Option<Box<Proof>>,
    facts: &Facts<'_>,
    replay: Option<&'static str>,
) -> Result<Admitted, Refusal> {
    let trust = facts.trust;
    if job.cluster != trust.cluster || job.bridge != trust.bridge || job.bridge_key != trust.key() {
        return Err(refusal("address", "the job is for another bridge"));
    }
    if job.journal != facts.journal {
        return Err(refusal(
            "journal",
            "the job is for a journal that this bridge does not have any more",
        ));
    }
    if let Some(message) = replay {
        return Err(refusal("replay", message));
    }
    if let Some(message) = out_of_date(trust, facts.now) {
        return Err(refusal("trust", &message));
    }
    if facts.now > job.not_after {
        return Err(refusal(
            "expired",
            "the job's start window has closed, by this bridge's clock",
        ));
    }
    if facts.now.after(CLOCK_SKEW_MAX) < job.not_before {
        return Err(refusal(
            "expired",
            "the job's start window has not opened, by this bridge's clock",
        ));
    }
    if facts.locked {
        return Err(refusal("locked", "this bridge is locked by its operator"));
    }
    if facts.room < DISK_RESERVE_BYTES {
        return Err(refusal("space", &no_room(facts.room)));
    }
    let policy = facts.policy.map_err(|error| Refusal {
        clause: "policy".to_owned(),
        message: chain(error),
    })?;
    let admission = policy.admit(&job, proof.as_deref(), &facts.load, facts.now)?;
    if let Some(approved) = &admission.approved
        && facts.uses.taken(approved, job.attempt)
    {
        return Err(used(approved));
    }
    if Rendered::of(Parts::from(&job)).sha256() != job.rendered {
        return Err(refusal(
            "rendered",
            "what the job would do is not what it was shown to be",
        ));
    }
    Ok(Admitted {
        job,
        proof,
        admission,
        body,
        released: Vec::new(),
        connection: None,
    })
}

/// Why nothing starts that was accepted, whatever it is.
pub fn stopped(trust: &Trust, locked: bool, room: u64, now: Timestamp) -> Option<String> {
    if locked {
        return Some("this bridge is locked by its operator".to_owned());
    }
    if room < DISK_RESERVE_BYTES {
        return Some(format!("space: {}", no_room(room)));
    }
    out_of_date(trust, now).map(|why| format!("trust: {why}"))
}

/// Why nobody's word is taken any more, once what this bridge knows of its hub's keys is too old.
pub fn out_of_date(trust: &Trust, now: Timestamp) -> Option<String> {
    let document = trust.trusted.document();
    (now > document.expires).then(|| {
        let (version, expires) = (document.version, document.expires);
        format!("trust document {version} of this bridge has ended at {expires}, and the hub has sent no newer one")
    })
}

/// Why nothing is started on a disk that has so many bytes left.
pub fn no_room(left: u64) -> String {
    format!(
        "the disk that holds the bridge's data has {} MiB left, and {} MiB are kept for what runs already",
        left >> 20,
        DISK_RESERVE_BYTES >> 20
    )
}

fn refusal(clause: &str, message: &str) -> Refusal {
    Refusal {
        clause: clause.to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use serde::{Deserialize, Serialize};
    use steward_shared::codec;
    use steward_shared::frame::Cancel;
    use steward_shared::id::{BridgeId, ClusterId};
    use steward_shared::limits::FRAME_BYTES_MAX;
    use steward_shared::sign::{Payload, PublicKey, SigningKey};
    use steward_shared::trust::{TrustDocument, Trusted};

    use super::*;
    use crate::policy::Place;
    use crate::policy::tests::{job, local, me, policy, run};

    const BODY: Digest = Digest([1; 32]);

    /// When what the bridge knows of its hub's keys ends.
    const ENDS: Timestamp = Timestamp::from_millis(4_000_000_000_000);

    /// Bytes that are signed for the purpose of a job and are none.
    #[derive(Serialize, Deserialize)]
    struct Noise(Vec<u8>);

    impl Payload for Noise {
        const TYPE: &'static str = Job::TYPE;
    }

    #[test]
    fn only_a_trusted_key_signs_jobs_and_only_as_jobs() {
        let gate = Gate::new();
        let signed = Signed::new(&gate.job, &gate.hub).unwrap();
        assert_eq!(verify(&signed, &gate.trust).unwrap(), gate.job);
        let by_other = Signed::new(&gate.job, &key()).unwrap();
        assert_eq!(verify(&by_other, &gate.trust), Err(SignError::NotSigned));
        let Job {
            cluster,
            bridge,
            attempt,
            fence,
            ..
        } = gate.job;
        let cancel = Signed::new(
            &Cancel {
                cluster,
                bridge,
                attempt,
                fence,
            },
            &gate.hub,
        )
        .unwrap();
        assert_eq!(
            verify(&as_job(&cancel), &gate.trust),
            Err(SignError::NotSigned)
        );
    }

    #[test]
    fn nothing_is_parsed_that_is_not_signed() {
        let gate = Gate::new();
        let noise = Noise(b"not a job".to_vec());
        let by_other = as_job(&Signed::new(&noise, &key()).unwrap());
        assert_eq!(verify(&by_other, &gate.trust), Err(SignError::NotSigned));
        let by_hub = as_job(&Signed::new(&noise, &gate.hub).unwrap());
        let verified = verify(&by_hub, &gate.trust);
        assert!(
            matches!(verified, Err(SignError::Malformed(_))),
            "{verified:?}"
        );
    }

    #[test]
    fn every_flipped_bit_of_an_envelope_is_refused() {
        let gate = Gate::new();
        let signed = Signed::new(&gate.job, &gate.hub).unwrap();
        let good = codec::encode(&signed, FRAME_BYTES_MAX).unwrap();
        assert!(good.len() > signed.body().len() + signed.signature().len());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let Ok(bad) = codec::decode::<Signed<Job>>(&bad, FRAME_BYTES_MAX) else {
                continue;
            };
            assert_eq!(
                verify(&bad, &gate.trust),
                Err(SignError::NotSigned),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn job_that_fits_is_admitted_with_what_the_policy_makes_of_it() {
        let gate = Gate::new();
        let admitted = gate.admit(|_, _| {}).unwrap();
        assert_eq!(admitted.job, gate.job);
        let Place::Local { programs, .. } = &admitted.admission.place else {
            panic!("{admitted:?}");
        };
        assert_eq!(programs[..], [Path::new("/usr/bin/uname")]);
        let offered = offered(&gate.job);
        assert_eq!(
            (offered.attempt, offered.fence),
            (gate.job.attempt, gate.job.fence)
        );
        assert_eq!((offered.job, offered.seq), (gate.job.job, gate.job.seq));
        assert_eq!(offered.not_after, gate.job.not_after);
    }

    #[test]
    fn job_for_another_cluster_bridge_key_or_journal_is_refused() {
        let gate = Gate::new();
        gate.refuses("address", |job, _| job.cluster = ClusterId::random());
        gate.refuses("address", |job, _| job.bridge = BridgeId::random());
        gate.refuses("address", |job, _| job.bridge_key = Digest([0; 32]));
        gate.refuses("journal", |job, _| job.journal = JournalId::random());
        gate.refuses("journal", |_, facts| facts.journal = JournalId::random());
    }

    #[test]
    fn job_that_would_do_something_else_than_was_shown_is_refused() {
        let gate = Gate::new();
        gate.refuses("rendered", |job, _| job.rendered = Digest([7; 32]));
        gate.refuses("rendered", |job, _| job.runtime_ms += 1);
    }

    #[test]
    fn job_out_of_its_window_is_refused_and_not_at_its_edges() {
        let gate = Gate::new();
        let moment = Duration::from_millis(1);
        let (opens, closes) = (
            gate.job.not_before.before(CLOCK_SKEW_MAX),
            gate.job.not_after,
        );
        for now in [opens, closes] {
            assert!(gate.admit(|_, facts| facts.now = now).is_ok(), "{now}");
        }
        gate.refuses("expired", |_, facts| facts.now = opens.before(moment));
        gate.refuses("expired", |_, facts| facts.now = closes.after(moment));
    }

    #[test]
    fn replay_lock_and_policy_each_say_no_in_their_own_name() {
        let gate = Gate::new();
        let replay = admit(
            (gate.job.clone(), BODY),
            None,
            &gate.facts(),
            Some("an old one"),
        )
        .unwrap_err();
        assert_eq!(
            (replay.clause.as_str(), replay.message.as_str()),
            ("replay", "an old one")
        );
        gate.refuses("trust", |job, facts| {
            job.not_after = ENDS.after(Duration::from_secs(60));
            facts.now = ENDS.after(Duration::from_millis(1));
        });
        gate.refuses("locked", |_, facts| facts.locked = true);
        gate.refuses("policy.projects", |job, _| job.project = "other".to_owned());
        gate.refuses("policy.concurrent", |_, facts| facts.load.open = 16);
        let missing = Policy::read(Path::new("/nonexistent/policy.toml")).unwrap_err();
        let refusal = gate.refuses("policy", |_, facts| facts.policy = Err(&missing));
        assert!(
            refusal.message.contains("/nonexistent/policy.toml"),
            "{}",
            refusal.message
        );
        assert!(
            refusal.message.contains("No such file"),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn cheap_and_fatal_checks_come_first() {
        let gate = Gate::new();
        let missing = Policy::read(Path::new("/nonexistent/policy.toml")).unwrap_err();
        let mut facts = Facts {
            locked: true,
            room: DISK_RESERVE_BYTES - 1,
            policy: Err(&missing),
            ..gate.facts()
        };
        facts.now = gate.job.not_after.after(Duration::from_secs(1));
        let mut job = Job {
            journal: JournalId::random(),
            ..gate.job.clone()
        };
        job.cluster = ClusterId::random();
        let mut clauses = Vec::new();
        let mut replay = Some("an old one");
        // Each turn takes away what the gate complains of.
        while let Err(refusal) = admit((job.clone(), BODY), None, &facts, replay) {
            match refusal.clause.as_str() {
                "address" => job.cluster = gate.job.cluster,
                "journal" => job.journal = gate.job.journal,
                "replay" => replay = None,
                "expired" => facts.now = gate.job.not_after,
                "locked" => facts.locked = false,
                "space" => facts.room = DISK_RESERVE_BYTES,
                "policy" => facts.policy = Ok(&gate.policy),
                other => panic!("{other}"),
            }
            clauses.push(refusal.clause);
        }
        assert_eq!(
            clauses,
            [
                "address", "journal", "replay", "expired", "locked", "space", "policy"
            ]
        );
    }

    struct Gate {
        hub: SigningKey,
        trust: Trust,
        policy: Policy,
        uses: Uses,
        job: Job,
    }

    impl Gate {
        fn new() -> Self {
            let (hub, receipt_key) = (key(), key());
            let job = job(local(vec![run(&["uname"])]));
            let trust = Trust {
                cluster: job.cluster,
                bridge: job.bridge,
                name: "bridge-1".to_owned(),
                site: "site-1".to_owned(),
                trusted: trusted(job.cluster, vec![key().public(), hub.public()]),
                receipt_key: Arc::new(receipt_key),
            };
            let text = Policy::starter_observe(&me());
            let policy = policy(&text.replace("[\"*\"]", "[\"default\"]")).unwrap();
            let job = Job {
                bridge_key: trust.key(),
                rendered: Rendered::of(Parts::from(&job)).sha256(),
                ..job
            };
            Self {
                hub,
                trust,
                policy,
                uses: Uses::default(),
                job,
            }
        }

        fn facts(&self) -> Facts<'_> {
            Facts {
                trust: &self.trust,
                journal: self.job.journal,
                policy: Ok(&self.policy),
                locked: false,
                room: u64::MAX,
                load: Load {
                    open: 0,
                    starts_last_minute: 0,
                },
                uses: &self.uses,
                now: self.job.not_before,
            }
        }

        fn admit<'a>(
            &'a self,
            change: impl FnOnce(&mut Job, &mut Facts<'a>),
        ) -> Result<Admitted, Refusal> {
            let (mut job, mut facts) = (self.job.clone(), self.facts());
            change(&mut job, &mut facts);
            admit((job, BODY), None, &facts, None)
        }

        fn refuses<'a>(
            &'a self,
            clause: &str,
            change: impl FnOnce(&mut Job, &mut Facts<'a>),
        ) -> Refusal {
            let refusal = self.admit(change).unwrap_err();
            assert_eq!(refusal.clause, clause, "{}", refusal.message);
            refusal
        }
    }

    fn trusted(cluster: ClusterId, job_keys: Vec<PublicKey>) -> Trusted {
        let signer = key();
        let document = TrustDocument {
            cluster,
            version: 1,
            previous: Digest([0; 32]),
            issued_at: Timestamp::from_millis(1),
            expires: ENDS,
            trust_key: signer.public(),
            job_keys,
            roots: vec![Digest([0; 32])],
        };
        let signed = Signed::new(&document, &signer).unwrap();
        Trusted::given(signed, cluster, &signer.public()).unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::from_seed(&SigningKey::new_seed().unwrap()).unwrap()
    }

    /// The same bytes, taken for a job.
    fn as_job<T: Payload>(signed: &Signed<T>) -> Signed<Job> {
        let bytes = codec::encode(signed, FRAME_BYTES_MAX).unwrap();
        codec::decode(&bytes, FRAME_BYTES_MAX).unwrap()
    }
}
