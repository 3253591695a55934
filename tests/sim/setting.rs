//! What all worlds begin with: keys, an enrolled handful of bridges, documents, policies.
//!
//! Made once; each world gets a copy of the database.

use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::Connection;
use steward_bridge::policy::{Account, Policy, PolicyError};
use steward_bridge::runner::trust::Trust;
use steward_certs::fingerprint::Pin;
use steward_hub::flow::Flow;
use steward_hub::flow::credentials::NewCredential;
use steward_hub::flow::documents::Wanted;
use steward_hub::model::kek::KekSource;
use steward_hub::store::{Driver, NewBridge, ProjectRow, Segments, Store, StoreError};
use steward_hub::vault::Vault;
use steward_hub::vault::kek::{Kek, stretching};
use steward_shared::hex;
use steward_shared::id::{BridgeId, ClusterId, ProjectId};
use steward_shared::random::Random;
use steward_shared::secret::Secret;
use steward_shared::sign::{SigningKey, Verifier};
use steward_shared::time::Clock;
use steward_shared::trust::Trusted;

use super::clock::{Clocks, Time};
use super::dice::{Dice, Shaker};
use super::pool;

/// The user of all simulated requests.
pub(crate) const USER: &str = "m.okafor";

/// The tasks of the documents: one that has time, one that has little.
pub(crate) const TASKS: [&str; 2] = ["work", "brief"];

/// A task on other machines, with a credential.
pub(crate) const REMOTE: &str = "remote";

/// Its credential's value.
pub(crate) const SECRET: &str = "hunter2 hunter2";

const SITES: [&str; 3] = ["site-1", "site-1", "site-2"];

const DOCUMENTS: &str = "
site: site-1
---
site: site-2
---
target: one
site: site-1
address: 10.0.0.1
---
target: two
site: site-1
address: 10.0.0.2
---
target: three
site: site-1
address: 10.0.0.3
---
target: four
site: site-2
address: 10.0.1.1
---
target: five
site: site-2
address: 10.0.1.2
---
template: work
executor: local
steps:
  - run: /bin/true
timeout: 60s
---
template: brief
executor: local
steps:
  - run: /bin/true
timeout: 4s
---
template: remote
executor: ssh
steps:
  - run: /bin/true
timeout: 30s
---
task: remote
template: remote
login: { credential: deploy-password }
targets: { names: [one, two, three, four, five] }
---
task: work
template: work
targets: { names: [one, two, three, four, five] }
---
task: brief
template: brief
targets: { names: [one, two, three, four, five] }
";

/// A bridge that is enrolled.
#[derive(Debug, Clone)]
pub(crate) struct Enrolled {
    pub(crate) name: String,
    pub(crate) id: BridgeId,
    pub(crate) key: Pin,
    pub(crate) trust: Arc<Trust>,
    pub(crate) receipts: Verifier,
}

/// What an operator may put in force.
pub(crate) type Rules = Arc<Result<Policy, PolicyError>>;

/// What all worlds begin with.
pub(crate) struct Setting {
    pub(crate) vault: Arc<Vault>,
    pub(crate) bridges: Vec<Enrolled>,
    /// One that allows everything, one that allows one attempt at a time, one that allows nothing, and none.
    pub(crate) rules: [Rules; 4],
    database: Mutex<Connection>,
}

/// The setting of all worlds of this process.
pub(crate) fn setting() -> &'static Setting {
    static SETTING: OnceLock<Setting> = OnceLock::new();
    SETTING.get_or_init(Setting::new)
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = Time::default();
        let clock = Arc::new(Clocks::new(time));
        let vault = Vault::create(folder.path(), ClusterId::random(), clock.now()).unwrap();
        let kek = KekSource::File(folder.path().join("kek"));
        let kek = Kek::create(&kek, &stretching().unwrap(), None);
        let vault = Arc::new(vault.with_kek(kek));
        let database = Arc::new(Mutex::new(Connection::open_in_memory().unwrap()));
        let (store, mut driver) = Store::driven(Arc::clone(&database)).unwrap();
        let shaker = Shaker::new(Dice::new(0));
        let flow = flow(store, &vault, clock, shaker, Segments::in_memory());
        at_once(&mut driver, flow.begin_keys()).unwrap();
        let (document, signer) = at_once(&mut driver, flow.newest_trust()).unwrap();
        let trusted = Trusted::given(document, vault.cluster(), &signer).unwrap();
        let bridges: Vec<Enrolled> = (0..SITES.len()).map(|at| enrolled(&trusted, at)).collect();
        at_once(&mut driver, fill(&flow, &bridges));
        drop((flow, driver));
        let database = Arc::into_inner(database).unwrap().into_inner().unwrap();
        let everything = Policy::starter_dev(&Account::current().unwrap().name);
        let rules = [
            everything.clone(),
            everything.replace("concurrent = 64", "concurrent = 1"),
            everything.replace("projects = [\"*\"]", "projects = [\"other\"]"),
        ];
        let path = folder.path().join("policy.toml");
        let [all, narrow, nothing] = rules.map(|text| {
            std::fs::write(&path, text).unwrap();
            Policy::read(&path)
        });
        assert!(all.is_ok() && narrow.is_ok() && nothing.is_ok());
        let none = Policy::read(Path::new("/nonexistent/policy.toml"));
        Self {
            vault,
            bridges,
            rules: [all, narrow, nothing, none].map(Arc::new),
            database: Mutex::new(database),
        }
    }

    /// A database of its own for a hub.
    pub(crate) fn database(&self) -> Connection {
        pool::hub(&self.database.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A hub's work over a store.
pub(crate) fn flow(
    store: Store,
    vault: &Arc<Vault>,
    clock: Arc<dyn Clock>,
    random: impl Random,
    segments: Segments,
) -> Flow {
    Flow {
        store,
        segments,
        vault: Arc::clone(vault),
        roster: Arc::default(),
        clock,
        random: Arc::new(random),
        attempts: Arc::default(),
        runs: Arc::default(),
        queued: Arc::default(),
        rotating: Arc::default(),
        arriving: Arc::default(),
        outside: Arc::default(),
        addresses: Arc::default(),
    }
}

/// Runs a future to its end, with its transactions, and nothing else.
pub(crate) fn at_once<T>(driver: &mut Driver, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return done;
        }
        driver.commit(usize::MAX).unwrap();
    }
}

fn enrolled(trusted: &Trusted, at: usize) -> Enrolled {
    let receipt_key = SigningKey::from_seed(&SigningKey::new_seed().unwrap()).unwrap();
    let number = u8::try_from(at + 1).unwrap();
    let id = BridgeId::from_bytes([number; 16]);
    let name = format!("bridge-{number}");
    let receipts = Verifier::new(&receipt_key.public()).unwrap();
    let trust = Trust {
        cluster: trusted.document().cluster,
        bridge: id,
        name: name.clone(),
        site: SITES[at].to_owned(),
        trusted: trusted.clone(),
        receipt_key: Arc::new(receipt_key),
    };
    Enrolled {
        name,
        id,
        key: Pin::of_spki(&[number]),
        trust: Arc::new(trust),
        receipts,
    }
}

async fn fill(flow: &Flow, bridges: &[Enrolled]) {
    let now = flow.now();
    let project = ProjectRow {
        id: ProjectId::by_time(),
        name: "default".to_owned(),
        title: String::new(),
        created_at: now,
    };
    let added: Result<(), StoreError> = flow.store.write(move |tx| tx.add_project(&project)).await;
    added.unwrap();
    let credential = NewCredential {
        name: "deploy-password".to_owned(),
        kind: "password".to_owned(),
        account: "deploy".to_owned(),
        authority: None,
        outside: None,
        database: None,
    };
    flow.add_credential(USER, "default", credential)
        .await
        .unwrap();
    let value = Secret::from(SECRET.to_owned());
    flow.set_credential_value(USER, "deploy-password", value)
        .await
        .unwrap();
    flow.apply_documents(USER, "default", DOCUMENTS, Wanted::Any)
        .await
        .unwrap();
    for (bridge, site) in bridges.iter().zip(SITES) {
        let (id, name, pin) = (bridge.id, bridge.name.clone(), bridge.key);
        let receipt_key = hex::encode(&bridge.trust.receipt_key.public().0);
        let added: Result<(), StoreError> = flow
            .store
            .write(move |tx| {
                let site = tx.site(site)?.unwrap().id;
                let new = NewBridge {
                    id,
                    site,
                    name,
                    receipt_key,
                    pin,
                    issuer: pin,
                    certificate_expires_at: now.after(Duration::from_secs(1 << 30)),
                    version: "0.1.0".to_owned(),
                };
                tx.add_bridge(&new, now)
            })
            .await;
        added.unwrap();
    }
}
