//! The API's description: what each operation takes and answers, made from the handlers themselves.

use utoipa::OpenApi;

use super::Route;
use crate::web::api::{
    artifacts, attempts, bridges, credentials, events, host_keys, keys, live, metrics, rotations,
    runs, sources, targets, tasks, templates,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Steward",
        description = "Runs privileged tasks across segmented networks."
    ),
    paths(
        super::about::ready,
        super::about::openapi,
        super::about::whoami,
        targets::projects,
        targets::add_project,
        targets::project,
        targets::sites,
        targets::add_site,
        targets::site,
        targets::targets,
        targets::add_target,
        targets::target,
        targets::remove_target,
        host_keys::host_keys,
        host_keys::learn,
        host_keys::confirm,
        host_keys::forget,
        bridges::bridges,
        bridges::enrol,
        bridges::bridge,
        bridges::drain,
        bridges::resume,
        bridges::revoke,
        credentials::credentials,
        credentials::add_credential,
        credentials::credential,
        credentials::remove_credential,
        credentials::public_half,
        credentials::set_value,
        rotations::rotate,
        rotations::verify,
        rotations::rotations,
        rotations::rotation,
        credentials::rotate_authority,
        sources::sources,
        sources::add_source,
        sources::source,
        sources::remove_source,
        sources::set_secret,
        credentials::vault,
        credentials::unseal,
        credentials::verify_vault,
        credentials::rotate_keys,
        keys::keys,
        keys::rotate,
        tasks::templates,
        templates::add_template,
        tasks::template,
        tasks::sign_template,
        templates::versions,
        templates::publish,
        templates::retire,
        templates::test,
        tasks::tasks,
        tasks::add_task,
        tasks::task,
        tasks::documents,
        artifacts::artifacts,
        artifacts::add_artifact,
        artifacts::artifact,
        artifacts::content,
        artifacts::remove_artifact,
        runs::runs,
        runs::create,
        runs::preview,
        runs::run,
        runs::cancel,
        runs::rerun,
        runs::jobs,
        live::run,
        runs::job,
        attempts::attempt,
        attempts::job,
        attempts::events,
        attempts::output,
        live::attempt,
        attempts::resolve,
        events::events,
        metrics::metrics,
    )
)]
struct Described;

/// The API's description, each operation with the permission from the table of routes.
pub(super) fn description(routes: &[Route]) -> serde_json::Value {
    let mut document = serde_json::to_value(Described::openapi()).unwrap_or_default();
    for route in routes {
        let pointer = format!(
            "/paths/{}/{}",
            route.path.replace('/', "~1"),
            route.method.to_lowercase()
        );
        if let Some(serde_json::Value::Object(operation)) = document.pointer_mut(&pointer) {
            operation.insert("x-steward-permission".to_owned(), route.permission.into());
        }
    }
    document
}
