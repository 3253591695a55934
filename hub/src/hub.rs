//! The hub as a whole: made once with [`init`], then started and stopped.

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use steward_certs::fingerprint::Pin;
use steward_certs::key::Key;
use steward_certs::tls::Holder;
use steward_shared::id::{ClusterId, ProjectId};
use steward_shared::random::SystemRandom;
use steward_shared::secret::Secret;
use steward_shared::stop::Stop;
use steward_shared::time::{Clock, SystemClock};

use crate::config::Config;
use crate::flow::error::FlowError;
use crate::flow::{Flow, debts, dispatch, keys, outputs, reap, reseal, roster, rotation, unseal};
use crate::limits::{HUB_CERTIFICATE, STOP_WITHIN};
use crate::link::{LinkError, Listener};
use crate::meter;
use crate::model::hub_key::HubKey;
use crate::model::kek::KekSource;
use crate::model::permission::Role;
use crate::store::{ProjectRow, SegmentError, Segments, Store, StoreError};
use crate::vault::kek::{self, Kek, KekError};
use crate::vault::{Vault, VaultError};
use crate::web::routes;
use crate::web::server::{Server, ServerError};

/// Why there is no hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A folder cannot be made.
    #[error("cannot make or read {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// There is a hub already.
    #[error("{path} holds a hub already; nothing was changed")]
    Exists {
        /// Its folder.
        path: PathBuf,
    },
    /// Another hub serves the folder.
    #[error("another hub serves {path}")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Others can read or write it.
    #[error("others can reach {path}: only its owner may (chmod go= {path})")]
    Open {
        /// The folder or file.
        path: PathBuf,
    },
    /// There is no hub.
    #[error("{path} holds no hub: run `steward-hub init --data-dir {path}` first")]
    Missing {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// A name is not a host name or an address.
    #[error("the keys failed")]
    Vault(#[from] VaultError),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The output store failed.
    #[error("the output store failed")]
    Segments(#[from] SegmentError),
    /// The first objects cannot be made.
    #[error("cannot make the first objects")]
    Flow(#[from] FlowError),
    /// Bridges cannot be let in.
    #[error("cannot serve bridges")]
    Link(#[from] LinkError),
    /// Clients cannot be served.
    #[error("cannot serve clients")]
    Server(#[from] ServerError),
    /// There is no key-encryption key.
    #[error("the vault has no key")]
    Kek(#[from] KekError),
    /// No key for TLS.
    #[error("cannot make the hub's TLS key")]
    Key(#[from] steward_certs::key::KeyError),
}

/// What [`init`] made.
#[derive(Debug)]
pub struct Initialised {
    /// The fingerprint by which clients and bridges know the hub.
    pub pin: Pin,
    /// The admin's token; it is kept nowhere.
    pub token: Secret,
}

/// A running hub.
#[derive(Debug)]
pub struct Hub {
    flow: Flow,
    stop: Stop,
    web: SocketAddr,
    bridges: SocketAddr,
    _only: fs::File,
}

/// How long the admin's first token is good.
const ADMIN_TOKEN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Makes a hub: its keys, its database, its default project, its admin.
///
/// # Errors
/// [`HubError::Exists`] when there is one; nothing is changed then.
pub async fn init(config: &Config, passphrase: Option<&Secret>) -> Result<Initialised, HubError> {
    let exists = config.database().exists() || config.keys().join("ca.key").exists();
    if exists {
        return Err(HubError::Exists {
            path: config.data_dir.clone(),
        });
    }
    for folder in [&config.data_dir, &config.keys(), &config.objects()] {
        make_folder(folder)?;
        keep_private(folder)?;
    }
    let cluster = ClusterId::random();
    let stretching = kek::stretching()?;
    // First, because it can be missing; what an earlier try has left protects nothing yet.
    let kek = Kek::find_or_create(&config.kek(), &stretching, passphrase)?;
    let vault = Vault::create(&config.keys(), cluster, SystemClock.now())?;
    let pin = vault.pin();
    let store = Store::open(&config.database())?;
    let now = SystemClock.now();
    let kek_name = kek.name();
    store
        .write(move |tx| {
            tx.set_setting("cluster", &cluster.to_string())?;
            unseal::remember(tx, kek_name, &stretching)?;
            let project = ProjectRow {
                id: ProjectId::by_time(),
                name: "default".to_owned(),
                title: "The first project".to_owned(),
                created_at: now,
            };
            tx.add_project(&project)
        })
        .await?;
    let flow = assemble(store, vault.with_kek(Ok(kek)), config, Vec::new())?;
    flow.begin_keys().await?;
    flow.prove_vault()?;
    let token = flow.add_token("admin", Role::Admin, ADMIN_TOKEN).await?;
    Ok(Initialised { pin, token })
}

/// Opens the store of a hub that exists.
///
/// # Errors
/// [`HubError::Missing`] when there is none.
pub(crate) async fn open(config: &Config) -> Result<(Store, Vault), HubError> {
    if !config.database().exists() {
        return Err(HubError::Missing {
            path: config.data_dir.clone(),
        });
    }
    for private in [&config.data_dir, &config.keys(), &config.database()] {
        keep_private(private)?;
    }
    let store = Store::open(&config.database())?;
    let cluster: Option<String> = store
        .read(|tx| tx.setting("cluster"))
        .await
        .map_err(HubError::Store)?;
    let cluster = cluster
        .and_then(|text| text.parse().ok())
        .ok_or(StoreError::Corrupt {
            table: "settings",
            column: "value",
        })?;
    let lifetime = Duration::from_secs(config.certificates.bridge_lifetime_seconds);
    let expected: Option<unseal::Expected> = store.read(unseal::expected).await?;
    let kek = unseal::find(&config.kek(), expected.as_ref());
    let keys: Result<Vec<HubKey>, StoreError> = store.read(|tx| tx.hub_keys()).await;
    let vault = Vault::open(&config.keys(), cluster, &keys?)?
        .with_bridge_lifetime(lifetime)
        .with_kek(kek)
        .with_passphrase(config.kek() == KekSource::Passphrase);
    Ok((store, vault))
}

pub(crate) fn assemble(
    store: Store,
    vault: Vault,
    config: &Config,
    addresses: Vec<String>,
) -> Result<Flow, HubError> {
    Ok(Flow {
        store,
        segments: Segments::local(&config.objects())?,
        vault: Arc::new(vault),
        roster: Arc::new(roster::Roster::default()),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        attempts: Arc::default(),
        runs: Arc::default(),
        queued: Arc::default(),
        rotating: Arc::default(),
        arriving: Arc::new(outputs::Arriving::default()),
        outside: Arc::default(),
        addresses: Arc::new(addresses),
    })
}

fn make_folder(path: &Path) -> Result<(), HubError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| HubError::Folder {
            path: path.to_owned(),
            source,
        })
}

/// Refuses what others than its owner can read or write: a hub's data is everybody's secrets.
fn keep_private(path: &Path) -> Result<(), HubError> {
    let metadata = fs::metadata(path).map_err(|source| HubError::Folder {
        path: path.to_owned(),
        source,
    })?;
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(HubError::Open {
        path: path.to_owned(),
    })
}

impl Hub {
    /// Starts a hub that [`init`] has made. When this returns it serves.
    ///
    /// # Errors
    /// [`HubError`] says what is missing or in the way.
    pub async fn start(config: &Config) -> Result<Self, HubError> {
        if !config.database().exists() {
            return Err(HubError::Missing {
                path: config.data_dir.clone(),
            });
        }
        meter::count_panics();
        let only = only(&config.data_dir)?;
        let (store, vault) = open(config).await?;
        let expected: Option<unseal::Expected> = store.read(unseal::expected).await?;
        unseal::finish(&config.kek(), expected.as_ref())?;
        fs::create_dir_all(config.objects()).map_err(|source| HubError::Folder {
            path: config.objects(),
            source,
        })?;
        let stop = Stop::default();
        let key = Key::generate()?;
        let (certificate, authorities) = vault.issue_hub(&key, &config.names, SystemClock.now())?;
        let own = Holder {
            key: &key,
            certificate: &certificate,
            authorities: &authorities,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let server = Server::bind(config.listen.web, own, Arc::clone(&clock)).await?;
        let mut flow = assemble(store, vault, config, Vec::new())?;
        flow.begin_keys().await?;
        flow.prove_vault()?;
        flow.forget_broken().await?;
        if let Some(why) = flow.vault.keyring().sealed() {
            tracing::error!(%why, "the vault is sealed: no credential can be used");
        }
        let listener = Listener::bind(flow.clone(), config.listen.bridges, own)?;
        let bridges = listener.address().unwrap_or(config.listen.bridges);
        let web = server.address().unwrap_or(config.listen.web);
        // A port that was taken at random is known only now; bridges that enrol are told it.
        flow.addresses = Arc::new(
            config
                .names
                .iter()
                .map(|name| address(name, bridges.port()))
                .collect(),
        );
        let listener = listener.with_flow(flow.clone());
        stop.run(dispatch::run(flow.clone(), stop.clone()));
        stop.run(reap::run(flow.clone(), stop.clone()));
        stop.run(debts::run(flow.clone(), stop.clone()));
        stop.run(reseal::run(flow.clone(), stop.clone()));
        stop.run(rotation::run(flow.clone(), stop.clone()));
        stop.run(keys::run(flow.clone(), stop.clone()));
        stop.run(renew(
            flow.clone(),
            config.names.clone(),
            listener.clone(),
            server.clone(),
            stop.clone(),
        ));
        stop.run(listener.run(stop.clone()));
        stop.run(server.run(routes::router(flow.clone(), stop.clone()), stop.clone()));
        Ok(Self {
            flow,
            stop,
            web,
            bridges,
            _only: only,
        })
    }

    /// Where it serves clients.
    pub const fn web(&self) -> SocketAddr {
        self.web
    }

    /// Where it serves bridges.
    pub const fn bridges(&self) -> SocketAddr {
        self.bridges
    }

    /// What it does, for `steward-hub token` and for `steward dev`.
    pub const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Completes when the hub cannot go on: the disk has failed it.
    pub async fn failed(&self) {
        self.flow.store.stopped().await;
    }

    /// Stops in order; false when something did not end in time, or is not on the disk.
    pub async fn stop(self) -> bool {
        let ended = self.stop.finish(STOP_WITHIN).await;
        // What the last tasks have written is still with the writer, and may be what the disk fails.
        let written = tokio::time::timeout(STOP_WITHIN, self.flow.store.drain()).await;
        ended && matches!(written, Ok(Ok(())))
    }

    /// Opens a hub's store and keys without serving anything.
    ///
    /// # Errors
    /// [`HubError`] says what is missing.
    pub async fn offline(config: &Config) -> Result<Flow, HubError> {
        let (store, vault) = open(config).await?;
        assemble(store, vault, config, Vec::new())
    }
}

fn address(name: &str, port: u16) -> String {
    if name.contains(':') {
        format!("[{name}]:{port}")
    } else {
        format!("{name}:{port}")
    }
}

/// Makes sure that no other hub serves this folder: each would judge the other's bridges by itself.
pub(crate) fn only(folder: &Path) -> Result<fs::File, HubError> {
    let path = folder.join("lock");
    let busy = |_| HubError::Busy {
        path: folder.to_owned(),
    };
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| HubError::Folder { path, source })?;
    file.try_lock().map_err(busy)?;
    Ok(file)
}

/// Makes a new certificate at half of the old one's life, and when the authorities have changed.
async fn renew(flow: Flow, names: Vec<String>, listener: Listener, server: Server, stop: Stop) {
    let mut roots = flow.vault.roots();
    let mut due = tokio::time::Instant::now() + HUB_CERTIFICATE / 2;
    loop {
        let changed = flow.vault.changed();
        if flow.vault.roots() == roots {
            tokio::select! {
                () = stop.stopped() => return,
                () = changed => continue,
                () = tokio::time::sleep_until(due) => (),
            }
        }
        roots = flow.vault.roots();
        due = tokio::time::Instant::now() + HUB_CERTIFICATE / 2;
        if let Err(error) = renew_once(&flow, &names, &listener, &server) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot renew the hub's certificate"
            );
        }
    }
}

fn renew_once(
    flow: &Flow,
    names: &[String],
    listener: &Listener,
    server: &Server,
) -> Result<(), HubError> {
    let key = Key::generate()?;
    let (certificate, authorities) = flow.vault.issue_hub(&key, names, flow.now())?;
    let own = Holder {
        key: &key,
        certificate: &certificate,
        authorities: &authorities,
    };
    listener.renew(own)?;
    server.renew(own)?;
    Ok(())
}
