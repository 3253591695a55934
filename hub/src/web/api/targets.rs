//! Projects, sites and targets.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use steward_shared::limits::{HOST_AUTHORITIES_MAX, HOST_KEYS_MAX, SOURCES_MAX};
use steward_shared::template::{
    OLDER_ALGORITHMS, SqlTarget, SshTarget, TelnetTarget, Tls, Way, algorithm, authority, database,
    host_key, reuse, source,
};
use utoipa::ToSchema;

use crate::flow::error::FlowError;
use crate::flow::targets::{NewTarget, find_site, find_target};
use crate::store::{ProjectRow, SiteRow, TargetRow};
use crate::web::api::servers::{TargetHttp, http};
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, Body, List, Part};
use crate::web::problem::Problem;

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub struct Project {
    id: String,
    name: String,
    title: String,
    created_at: String,
}

/// A site.
#[derive(Debug, Serialize, ToSchema)]
pub struct Site {
    id: String,
    name: String,
    project: String,
    title: String,
    bridges: usize,
    bridges_connected: usize,
    created_at: String,
}

/// A target.
#[derive(Debug, Serialize, ToSchema)]
pub struct Target {
    id: String,
    name: String,
    project: String,
    site: String,
    address: String,
    platform: String,
    labels: BTreeMap<String, String>,
    ssh: TargetSsh,
    sql: Option<TargetSql>,
    telnet: TargetTelnet,
    http: Option<TargetHttp>,
    created_at: String,
}

/// How a target is reached over SSH.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSsh {
    /// The TCP port.
    #[serde(default = "ssh_port")]
    port: u16,
    /// The host keys that it may show, in OpenSSH's format.
    #[serde(default)]
    host_keys: Vec<String>,
    /// The authorities whose host certificates it may show instead, as keys in OpenSSH's format.
    #[serde(default)]
    host_authorities: Vec<String>,
    /// Older algorithms that may be used with it.
    #[serde(default)]
    algorithms: Vec<String>,
    /// From where the target sees its bridge, where that is not the bridge's own address.
    #[serde(default)]
    sources: Vec<String>,
    /// How many seconds a connection waits for another job of the same account; 0 where each job has its own.
    #[serde(default)]
    reuse_seconds: u64,
    /// The target through which it is reached.
    jump: Option<TargetJump>,
}

/// How a target is reached over Telnet.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetTelnet {
    /// The TCP port.
    port: u16,
}

/// The database of a target.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSql {
    /// The TCP port.
    #[serde(default = "sql_port")]
    port: u16,
    /// Its name.
    database: String,
    /// `verify` where the server proves who it is, or `off`.
    #[serde(default = "sql_tls")]
    tls: String,
    /// The authorities under which its certificate is believed, PEM.
    #[serde(default)]
    authorities: Vec<String>,
}

fn sql_port() -> u16 {
    5432
}

fn sql_tls() -> String {
    Tls::Verify.to_string()
}

impl From<SqlTarget> for TargetSql {
    fn from(sql: SqlTarget) -> Self {
        Self {
            port: sql.port,
            database: sql.database,
            tls: sql.tls.to_string(),
            authorities: sql.authorities,
        }
    }
}

/// The way to a target through another one.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetJump {
    /// The other target.
    target: String,
    /// The credential whose account is used there.
    credential: String,
}

fn ssh_port() -> u16 {
    SshTarget::default().port
}

impl From<SshTarget> for TargetSsh {
    fn from(ssh: SshTarget) -> Self {
        Self {
            port: ssh.port,
            host_keys: ssh.host_keys,
            host_authorities: ssh.host_authorities,
            algorithms: ssh.algorithms,
            sources: ssh.sources,
            reuse_seconds: ssh.reuse_ms / 1000,
            jump: ssh.jump.map(|way| TargetJump {
                target: way.target,
                credential: way.credential,
            }),
        }
    }
}

/// A project or site to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Named {
    name: String,
    #[serde(default)]
    title: String,
    #[serde(default = "default_project")]
    project: String,
}

/// A target to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetRequest {
    name: String,
    site: String,
    address: String,
    platform: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    ssh: Option<TargetSsh>,
    sql: Option<TargetSql>,
    telnet: Option<TargetTelnet>,
    http: Option<TargetHttp>,
    #[serde(default = "default_project")]
    project: String,
}

/// The project where none is named.
pub(crate) fn default_project() -> String {
    "default".to_owned()
}

impl From<ProjectRow> for Project {
    fn from(row: ProjectRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            title: row.title,
            created_at: row.created_at.to_string(),
        }
    }
}

impl From<TargetRow> for Target {
    fn from(row: TargetRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            project: row.project_name,
            site: row.site_name,
            address: row.address,
            platform: row.platform,
            labels: row.labels,
            ssh: row.ssh.into(),
            sql: row.sql.map(TargetSql::from),
            telnet: TargetTelnet {
                port: row.telnet.port,
            },
            http: row.http.map(TargetHttp::from),
            created_at: row.created_at.to_string(),
        }
    }
}

/// The projects, in order of name.
#[utoipa::path(get, path = "/api/v1/projects", params(Part), responses((status = 200, body = List<Project>)))]
pub(crate) async fn projects(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Project>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.projects(&after, limit)?))
        .await;
    let items = rows?.into_iter().map(Project::from).collect();
    Ok(Json(List::new(items, limit, |project| {
        project.name.clone()
    })))
}

/// One project.
#[utoipa::path(get, path = "/api/v1/projects/{project}", params(("project" = String, Path,)), responses((status = 200, body = Project)))]
pub(crate) async fn project(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Project>, Problem> {
    let row: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| crate::flow::documents::project(tx, &name))
        .await;
    Ok(Json(row?.into()))
}

/// Makes a project.
#[utoipa::path(post, path = "/api/v1/projects", request_body = Named, responses((status = 201, body = Project)))]
pub(crate) async fn add_project(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<Named>,
) -> Result<(StatusCode, Json<Project>), Problem> {
    let row = app
        .flow
        .add_project(&caller.user, &new.name, &new.title)
        .await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// The sites, in order of name.
#[utoipa::path(get, path = "/api/v1/sites", params(Part), responses((status = 200, body = List<Site>)))]
pub(crate) async fn sites(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Site>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.sites(&after, limit)?))
        .await;
    let mut items = Vec::new();
    for row in rows? {
        items.push(shown(&app, row).await?);
    }
    Ok(Json(List::new(items, limit, |site| site.name.clone())))
}

/// One site.
#[utoipa::path(get, path = "/api/v1/sites/{site}", params(("site" = String, Path,)), responses((status = 200, body = Site)))]
pub(crate) async fn site(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Site>, Problem> {
    let row: Result<_, FlowError> = app.flow.store.read(move |tx| find_site(tx, &name)).await;
    Ok(Json(shown(&app, row?).await?))
}

/// Makes a site.
#[utoipa::path(post, path = "/api/v1/sites", request_body = Named, responses((status = 201, body = Site)))]
pub(crate) async fn add_site(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<Named>,
) -> Result<(StatusCode, Json<Site>), Problem> {
    let row = app
        .flow
        .add_site(&caller.user, &new.project, &new.name, &new.title)
        .await?;
    Ok((StatusCode::CREATED, Json(shown(&app, row).await?)))
}

async fn shown(app: &App, row: SiteRow) -> Result<Site, Problem> {
    let id = row.id;
    let bridges: Result<usize, FlowError> =
        app.flow.store.read(move |tx| Ok(tx.bridges_of(id)?)).await;
    let connected = app.flow.roster.at(row.id).len();
    Ok(Site {
        id: row.id.to_string(),
        name: row.name,
        project: row.project_name,
        title: row.title,
        bridges: bridges?,
        bridges_connected: connected,
        created_at: row.created_at.to_string(),
    })
}

/// The targets, in order of name.
#[utoipa::path(get, path = "/api/v1/targets", params(Part), responses((status = 200, body = List<Target>)))]
pub(crate) async fn targets(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Target>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.targets(&after, limit)?))
        .await;
    let items = rows?.into_iter().map(Target::from).collect();
    Ok(Json(List::new(items, limit, |target| target.name.clone())))
}

/// One target.
#[utoipa::path(get, path = "/api/v1/targets/{target}", params(("target" = String, Path,)), responses((status = 200, body = Target)))]
pub(crate) async fn target(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Target>, Problem> {
    let row: Result<_, FlowError> = app.flow.store.read(move |tx| find_target(tx, &name)).await;
    Ok(Json(row?.into()))
}

/// Makes a target.
#[utoipa::path(post, path = "/api/v1/targets", request_body = TargetRequest, responses((status = 201, body = Target)))]
pub(crate) async fn add_target(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<TargetRequest>,
) -> Result<(StatusCode, Json<Target>), Problem> {
    let target = NewTarget {
        name: new.name,
        site: new.site,
        address: new.address,
        platform: new.platform,
        labels: new.labels,
        ssh: new
            .ssh
            .as_ref()
            .map_or_else(|| Ok(SshTarget::default()), ssh)?,
        sql: new.sql.as_ref().map(sql).transpose()?,
        telnet: new
            .telnet
            .as_ref()
            .map_or_else(|| Ok(TelnetTarget::default()), telnet)?,
        http: new.http.as_ref().map(http).transpose()?,
    };
    let row = app
        .flow
        .add_target(&caller.user, &new.project, target)
        .await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

fn telnet(given: &TargetTelnet) -> Result<TelnetTarget, FlowError> {
    if given.port == 0 {
        return Err(FlowError::invalid("telnet.port", "a port is 1 to 65535"));
    }
    Ok(TelnetTarget { port: given.port })
}

fn ssh(given: &TargetSsh) -> Result<SshTarget, FlowError> {
    if given.port == 0 {
        return Err(FlowError::invalid("ssh.port", "a port is 1 to 65535"));
    }
    if given.host_keys.len() > HOST_KEYS_MAX {
        let rule = format!("a target has at most {HOST_KEYS_MAX} host keys");
        return Err(FlowError::invalid("ssh.host_keys", rule));
    }
    if given.host_authorities.len() > HOST_AUTHORITIES_MAX {
        let rule = format!("a target has at most {HOST_AUTHORITIES_MAX} host authorities");
        return Err(FlowError::invalid("ssh.host_authorities", rule));
    }
    if given.algorithms.len() > OLDER_ALGORITHMS.len() {
        let rule = "each older algorithm is given once";
        return Err(FlowError::invalid("ssh.algorithms", rule));
    }
    if given.sources.len() > SOURCES_MAX {
        let rule = format!("a target has at most {SOURCES_MAX} sources");
        return Err(FlowError::invalid("ssh.sources", rule));
    }
    let host_keys = given.host_keys.iter().map(|key| host_key(key));
    let authorities = given.host_authorities.iter().map(|key| host_key(key));
    let algorithms = given.algorithms.iter().map(|name| algorithm(name));
    let sources = given.sources.iter().map(|text| source(text));
    Ok(SshTarget {
        port: given.port,
        host_keys: host_keys
            .collect::<Result<_, _>>()
            .map_err(|rule| FlowError::invalid("ssh.host_keys", rule))?,
        host_authorities: authorities
            .collect::<Result<_, _>>()
            .map_err(|rule| FlowError::invalid("ssh.host_authorities", rule))?,
        algorithms: algorithms
            .collect::<Result<_, _>>()
            .map_err(|rule| FlowError::invalid("ssh.algorithms", rule))?,
        sources: sources
            .collect::<Result<_, _>>()
            .map_err(|rule| FlowError::invalid("ssh.sources", rule))?,
        reuse_ms: reuse(given.reuse_seconds.saturating_mul(1000))
            .map_err(|rule| FlowError::invalid("ssh.reuse_seconds", rule))?,
        jump: given.jump.as_ref().map(|way| {
            Box::new(Way {
                target: way.target.clone(),
                credential: way.credential.clone(),
            })
        }),
    })
}

fn sql(given: &TargetSql) -> Result<SqlTarget, FlowError> {
    if given.port == 0 {
        return Err(FlowError::invalid("sql.port", "a port is 1 to 65535"));
    }
    let tls = match given.tls.as_str() {
        "verify" => Tls::Verify,
        "off" => Tls::Off,
        _ => return Err(FlowError::invalid("sql.tls", "tls is verify or off")),
    };
    let authorities = given.authorities.iter().map(|pem| authority(pem));
    Ok(SqlTarget {
        port: given.port,
        database: database(&given.database)
            .map_err(|rule| FlowError::invalid("sql.database", rule))?,
        tls,
        authorities: authorities
            .collect::<Result<_, _>>()
            .map_err(|rule| FlowError::invalid("sql.authorities", rule))?,
    })
}

/// Removes a target; what was done on it stays on record.
#[utoipa::path(delete, path = "/api/v1/targets/{target}", params(("target" = String, Path,)), responses((status = 204)))]
pub(crate) async fn remove_target(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.flow.remove_target(&caller.user, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
