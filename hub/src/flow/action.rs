//! What a job does: its template's steps, and how its target is reached.

use steward_shared::action::{
    Action, Database, HostKeys, Http, Jump, Local, Origin, Server, Sql, Ssh, TargetRef, Telnet,
};
use steward_shared::credential::Login;
use steward_shared::id::TargetId;
use steward_shared::template::{
    Executor, HttpTarget, Manifest, SqlTarget, SshTarget, Step, Tls, Values, Way,
};

use crate::store::{StoreError, Tx};

/// What the jobs of a run do, wherever they do it.
pub(super) struct Work<'a> {
    /// Whether they only look at host keys.
    pub learns: bool,
    /// Its steps, or those of its dry run.
    pub steps: &'a [Step],
    pub manifest: &'a Manifest,
    pub values: &'a Values,
    /// Whether they may share a connection where their targets allow it.
    pub shares: bool,
    /// The run's project, by name.
    pub project: &'a str,
}

/// What one of them does on this target.
///
/// # Errors
/// When the store fails.
pub(super) fn action(
    tx: &mut Tx<'_>,
    target: TargetId,
    work: &Work<'_>,
) -> Result<Action, StoreError> {
    let (manifest, values) = (work.manifest, work.values);
    if work.learns {
        let port = tx.target_ssh(target)?.port;
        return Ok(Action::HostKeys(HostKeys { port }));
    }
    let steps = work.steps.to_vec();
    Ok(match manifest.executor {
        Executor::Local => Action::Local(Local {
            steps,
            values: values.clone(),
            environment: manifest.environment.clone(),
            directory: manifest.directory.clone(),
            run_as: manifest.run_as.clone(),
        }),
        Executor::Ssh => {
            let ssh = tx.target_ssh(target)?;
            let jump = match &ssh.jump {
                Some(way) => Some(Box::new(jump(tx, way, work.project)?)),
                None => None,
            };
            Action::Ssh(Ssh {
                steps,
                values: values.clone(),
                environment: manifest.environment.clone(),
                directory: manifest.directory.clone(),
                terminal: manifest.terminal,
                reuse_ms: if work.shares { ssh.reuse_ms } else { 0 },
                server: server(ssh),
                jump,
            })
        }
        Executor::Sql => Action::Sql(Sql {
            steps,
            values: values.clone(),
            database: database(tx.target_sql(target)?),
            read_only: manifest.read_only,
        }),
        Executor::Telnet => Action::Telnet(Telnet {
            steps,
            values: values.clone(),
            port: tx.target_telnet(target)?.port,
        }),
        Executor::Http => Action::Http(Http {
            steps,
            values: values.clone(),
            origin: origin(tx.target_http(target)?),
            authenticate: manifest.authenticate,
        }),
    })
}

/// A database that is not there any more has no name, and the bridge refuses the job.
fn database(sql: Option<SqlTarget>) -> Database {
    let sql = sql.unwrap_or(SqlTarget {
        port: 0,
        database: String::new(),
        tls: Tls::Verify,
        authorities: Vec::new(),
    });
    Database {
        port: sql.port,
        name: sql.database,
        tls: sql.tls,
        authorities: sql.authorities,
    }
}

/// A server that is not there any more has no port, and the bridge refuses the job.
fn origin(http: Option<HttpTarget>) -> Origin {
    let http = http.unwrap_or(HttpTarget {
        port: 0,
        tls: Tls::Verify,
        authorities: Vec::new(),
        host: None,
    });
    Origin {
        port: http.port,
        tls: http.tls,
        authorities: http.authorities,
        host: http.host,
    }
}

fn server(ssh: SshTarget) -> Server {
    Server {
        port: ssh.port,
        host_keys: ssh.host_keys,
        host_authorities: ssh.host_authorities,
        algorithms: ssh.algorithms,
        sources: ssh.sources,
    }
}

/// The way to a target through another one. What is not there any more is left out, and the bridge refuses the job.
fn jump(tx: &mut Tx<'_>, way: &Way, project: &str) -> Result<Jump, StoreError> {
    let credential = tx.credential(&way.credential)?;
    let credential = credential.filter(|one| one.project_name == project);
    let login = credential.map(|credential| Login {
        credential: credential.id,
        name: credential.name,
        kind: credential.kind,
        account: credential.account,
    });
    let (target, server) = match tx.target(&way.target)? {
        Some(target) => {
            let found = TargetRef {
                id: target.id,
                name: target.name,
                address: target.address,
            };
            (found, server(target.ssh))
        }
        None => {
            let gone = TargetRef {
                id: TargetId::from_bytes([0; 16]),
                name: way.target.clone(),
                address: String::new(),
            };
            (gone, Server::default())
        }
    };
    Ok(Jump {
        target,
        server,
        login,
    })
}
