//! The one table of routes: building the router from it makes a route without a permission impossible.

mod about;
mod described;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use serde::Serialize;
use steward_shared::stop::Stop;
use tower_http::catch_panic::CatchPanicLayer;

use self::described::description;
use super::api::{
    artifacts, attempts, bridges, credentials, events, host_keys, keys, live, metrics, rotations,
    runs, sources, targets, tasks, templates,
};
use super::caller::{App, authorize};
use super::problem::Problem;
use crate::flow::Flow;
use crate::limits::REQUEST_BYTES_MAX;
use crate::model::permission::Permission;

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Its method.
    pub method: &'static str,
    /// Its path; what is in braces is a parameter.
    pub path: &'static str,
    /// What its caller needs.
    pub permission: &'static str,
}

/// A router and the list of what is in it.
struct Table {
    app: App,
    router: Router<App>,
    routes: Vec<Route>,
}

impl Table {
    fn route<H, T>(
        mut self,
        method: &'static str,
        path: &'static str,
        permission: Permission,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let filter = match method {
            "POST" => MethodFilter::POST,
            "DELETE" => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let state = (self.app.clone(), permission);
        let guarded = on(filter, handler).layer(from_fn_with_state(state, authorize));
        self.router = self.router.route(path, guarded);
        self.routes.push(Route {
            method,
            path,
            permission: permission.as_str(),
        });
        self
    }
}

/// Every route of the hub.
#[expect(
    clippy::too_many_lines,
    reason = "one list, so that it can be read at a glance"
)]
fn table(app: App) -> Table {
    use Permission as P;
    let table = Table {
        app,
        router: Router::new(),
        routes: Vec::new(),
    };
    table
        .route("GET", "/readyz", P::None, about::ready)
        .route("GET", "/metrics", P::MetricsRead, metrics::metrics)
        .route("GET", "/api/v1/openapi.json", P::None, about::openapi)
        .route("GET", "/api/v1/whoami", P::SignedIn, about::whoami)
        .route(
            "GET",
            "/api/v1/projects",
            P::ProjectsRead,
            targets::projects,
        )
        .route(
            "POST",
            "/api/v1/projects",
            P::ProjectsWrite,
            targets::add_project,
        )
        .route(
            "GET",
            "/api/v1/projects/{project}",
            P::ProjectsRead,
            targets::project,
        )
        .route("GET", "/api/v1/sites", P::BridgesRead, targets::sites)
        .route("POST", "/api/v1/sites", P::BridgesWrite, targets::add_site)
        .route("GET", "/api/v1/sites/{site}", P::BridgesRead, targets::site)
        .route("GET", "/api/v1/bridges", P::BridgesRead, bridges::bridges)
        .route(
            "POST",
            "/api/v1/bridges/enrolments",
            P::BridgesWrite,
            bridges::enrol,
        )
        .route(
            "GET",
            "/api/v1/bridges/{bridge}",
            P::BridgesRead,
            bridges::bridge,
        )
        .route(
            "POST",
            "/api/v1/bridges/{bridge}/drain",
            P::BridgesWrite,
            bridges::drain,
        )
        .route(
            "POST",
            "/api/v1/bridges/{bridge}/resume",
            P::BridgesWrite,
            bridges::resume,
        )
        .route(
            "POST",
            "/api/v1/bridges/{bridge}/revoke",
            P::BridgesWrite,
            bridges::revoke,
        )
        .route("GET", "/api/v1/targets", P::TargetsRead, targets::targets)
        .route(
            "POST",
            "/api/v1/targets",
            P::TargetsWrite,
            targets::add_target,
        )
        .route(
            "GET",
            "/api/v1/targets/{target}",
            P::TargetsRead,
            targets::target,
        )
        .route(
            "DELETE",
            "/api/v1/targets/{target}",
            P::TargetsWrite,
            targets::remove_target,
        )
        .route(
            "GET",
            "/api/v1/targets/{target}/host-keys",
            P::TargetsRead,
            host_keys::host_keys,
        )
        .route(
            "POST",
            "/api/v1/targets/{target}/host-keys/learn",
            P::TargetsWrite,
            host_keys::learn,
        )
        .route(
            "POST",
            "/api/v1/targets/{target}/host-keys/confirm",
            P::TargetsWrite,
            host_keys::confirm,
        )
        .route(
            "POST",
            "/api/v1/targets/{target}/host-keys/forget",
            P::TargetsWrite,
            host_keys::forget,
        )
        .route(
            "GET",
            "/api/v1/credentials",
            P::CredentialsRead,
            credentials::credentials,
        )
        .route(
            "POST",
            "/api/v1/credentials",
            P::CredentialsWrite,
            credentials::add_credential,
        )
        .route(
            "GET",
            "/api/v1/credentials/{credential}",
            P::CredentialsRead,
            credentials::credential,
        )
        .route(
            "DELETE",
            "/api/v1/credentials/{credential}",
            P::CredentialsWrite,
            credentials::remove_credential,
        )
        .route(
            "GET",
            "/api/v1/credentials/{credential}/public",
            P::CredentialsRead,
            credentials::public_half,
        )
        .route(
            "POST",
            "/api/v1/credentials/{credential}/value",
            P::CredentialsWrite,
            credentials::set_value,
        )
        .route("GET", "/api/v1/sources", P::SourcesRead, sources::sources)
        .route(
            "POST",
            "/api/v1/sources",
            P::SourcesWrite,
            sources::add_source,
        )
        .route(
            "GET",
            "/api/v1/sources/{source}",
            P::SourcesRead,
            sources::source,
        )
        .route(
            "DELETE",
            "/api/v1/sources/{source}",
            P::SourcesWrite,
            sources::remove_source,
        )
        .route(
            "POST",
            "/api/v1/sources/{source}/secret",
            P::SourcesWrite,
            sources::set_secret,
        )
        .route(
            "POST",
            "/api/v1/credentials/{credential}/rotate",
            P::CredentialsWrite,
            rotations::rotate,
        )
        .route(
            "POST",
            "/api/v1/credentials/{credential}/verify",
            P::CredentialsWrite,
            rotations::verify,
        )
        .route(
            "GET",
            "/api/v1/credentials/{credential}/rotations",
            P::CredentialsRead,
            rotations::rotations,
        )
        .route(
            "GET",
            "/api/v1/rotations/{rotation}",
            P::CredentialsRead,
            rotations::rotation,
        )
        .route(
            "POST",
            "/api/v1/credentials/{credential}/rotate-authority",
            P::CredentialsWrite,
            credentials::rotate_authority,
        )
        .route(
            "GET",
            "/api/v1/vault",
            P::CredentialsRead,
            credentials::vault,
        )
        .route(
            "POST",
            "/api/v1/vault/unseal",
            P::VaultWrite,
            credentials::unseal,
        )
        .route(
            "POST",
            "/api/v1/vault/verify",
            P::VaultWrite,
            credentials::verify_vault,
        )
        .route(
            "POST",
            "/api/v1/vault/rotate",
            P::VaultWrite,
            credentials::rotate_keys,
        )
        .route("GET", "/api/v1/keys", P::KeysRead, keys::keys)
        .route(
            "POST",
            "/api/v1/keys/{purpose}/rotate",
            P::KeysWrite,
            keys::rotate,
        )
        .route("GET", "/api/v1/templates", P::TasksRead, tasks::templates)
        .route(
            "POST",
            "/api/v1/templates",
            P::TasksWrite,
            templates::add_template,
        )
        .route(
            "GET",
            "/api/v1/templates/{template}",
            P::TasksRead,
            tasks::template,
        )
        .route(
            "POST",
            "/api/v1/templates/{template}/signatures",
            P::TasksWrite,
            tasks::sign_template,
        )
        .route(
            "GET",
            "/api/v1/templates/{template}/versions",
            P::TasksRead,
            templates::versions,
        )
        .route(
            "POST",
            "/api/v1/templates/{template}/publish",
            P::TasksWrite,
            templates::publish,
        )
        .route(
            "POST",
            "/api/v1/templates/{template}/retire",
            P::TasksWrite,
            templates::retire,
        )
        .route(
            "POST",
            "/api/v1/templates/{template}/test",
            P::TasksWrite,
            templates::test,
        )
        .route("GET", "/api/v1/tasks", P::TasksRead, tasks::tasks)
        .route("POST", "/api/v1/tasks", P::TasksWrite, tasks::add_task)
        .route("GET", "/api/v1/tasks/{task}", P::TasksRead, tasks::task)
        .route("POST", "/api/v1/documents", P::TasksWrite, tasks::documents)
        .route(
            "GET",
            "/api/v1/artifacts",
            P::ArtifactsRead,
            artifacts::artifacts,
        )
        .route(
            "POST",
            "/api/v1/artifacts",
            P::ArtifactsWrite,
            artifacts::add_artifact,
        )
        .route(
            "GET",
            "/api/v1/artifacts/{artifact}",
            P::ArtifactsRead,
            artifacts::artifact,
        )
        .route(
            "GET",
            "/api/v1/artifacts/{artifact}/content",
            P::ArtifactsRead,
            artifacts::content,
        )
        .route(
            "DELETE",
            "/api/v1/artifacts/{artifact}",
            P::ArtifactsWrite,
            artifacts::remove_artifact,
        )
        .route("GET", "/api/v1/runs", P::RunsRead, runs::runs)
        .route("POST", "/api/v1/runs", P::RunsWrite, runs::create)
        .route("POST", "/api/v1/runs/preview", P::RunsWrite, runs::preview)
        .route("GET", "/api/v1/runs/{run}", P::RunsRead, runs::run)
        .route(
            "POST",
            "/api/v1/runs/{run}/cancel",
            P::RunsWrite,
            runs::cancel,
        )
        .route(
            "POST",
            "/api/v1/runs/{run}/rerun",
            P::RunsWrite,
            runs::rerun,
        )
        .route("GET", "/api/v1/runs/{run}/jobs", P::RunsRead, runs::jobs)
        .route("GET", "/api/v1/runs/{run}/stream", P::RunsRead, live::run)
        .route("GET", "/api/v1/jobs/{job}", P::RunsRead, runs::job)
        .route(
            "GET",
            "/api/v1/attempts/{attempt}",
            P::RunsRead,
            attempts::attempt,
        )
        .route(
            "GET",
            "/api/v1/attempts/{attempt}/job",
            P::RunsRead,
            attempts::job,
        )
        .route(
            "GET",
            "/api/v1/attempts/{attempt}/events",
            P::RunsRead,
            attempts::events,
        )
        .route(
            "GET",
            "/api/v1/attempts/{attempt}/output",
            P::RunsRead,
            attempts::output,
        )
        .route(
            "GET",
            "/api/v1/attempts/{attempt}/stream",
            P::RunsRead,
            live::attempt,
        )
        .route(
            "POST",
            "/api/v1/attempts/{attempt}/resolve",
            P::RunsResolve,
            attempts::resolve,
        )
        .route("GET", "/api/v1/events", P::EventsRead, events::events)
}

/// The hub's router.
pub fn router(flow: Flow, stop: Stop) -> Router {
    let app = App {
        flow,
        stop,
        openapi: Arc::from(""),
    };
    let described = Arc::from(description(&table(app.clone()).routes).to_string());
    let app = App {
        openapi: described,
        ..app
    };
    table(app.clone())
        .router
        .with_state(app)
        .fallback(|| async { Problem::no_route() })
        .method_not_allowed_fallback(|| async { Problem::no_method() })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(from_fn(private))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::internal(&Panicked).into_response()
        }))
}

/// The list of the hub's routes, as `steward-hub routes` prints it.
pub fn routes(flow: Flow) -> Vec<Route> {
    table(App {
        flow,
        stop: Stop::default(),
        openapi: Arc::from(""),
    })
    .routes
}

#[derive(Debug, thiserror::Error)]
#[error("a request handler panicked")]
struct Panicked;

/// What the API answers is nobody's to keep or to interpret.
async fn private(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
