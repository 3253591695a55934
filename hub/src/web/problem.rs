//! The one place where errors become HTTP: `application/problem+json` (RFC 9457).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use steward_shared::template::InputError;

use crate::flow::error::FlowError;
use crate::model::permission::Permission;
use crate::store::StoreError;
use crate::vault::kek::KekError;
use crate::vault::keyring::SecretError;

/// An answer that says no.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    params: serde_json::Value,
}

impl Problem {
    /// The request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            "Malformed request",
            detail.into(),
            json!({}),
        )
    }

    /// No credentials, or none that are good.
    pub fn not_signed_in() -> Self {
        let detail = "no token was sent, or it is not good any more".to_owned();
        Self::new(
            StatusCode::UNAUTHORIZED,
            "not-signed-in",
            "Not signed in",
            detail,
            json!({}),
        )
    }

    /// The caller may not do this.
    pub fn not_permitted(permission: Permission) -> Self {
        let detail = format!("this needs the permission {permission}");
        let params = json!({ "permission": permission.as_str() });
        Self::new(
            StatusCode::FORBIDDEN,
            "not-permitted",
            "Not permitted",
            detail,
            params,
        )
    }

    /// There is no such route.
    pub fn no_route() -> Self {
        let detail = "there is nothing at this path".to_owned();
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            detail,
            json!({ "kind": "path" }),
        )
    }

    /// The path is there, the method is not.
    pub fn no_method() -> Self {
        let detail = "this path does not have that method".to_owned();
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "malformed",
            "No such method",
            detail,
            json!({}),
        )
    }

    /// The request is larger than allowed.
    pub fn too_large(limit: u64) -> Self {
        let detail = format!("a request has at most {limit} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "Too large",
            detail,
            json!({ "limit": limit }),
        )
    }

    /// A bug, or a condition that is nobody's fault; the log knows more.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        let detail = "the hub could not do this; its log says why, under this reference".to_owned();
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            detail,
            json!({}),
        )
    }

    fn inputs(detail: String, errors: &[InputError]) -> Self {
        let inputs: Vec<_> = errors
            .iter()
            .map(|error| {
                json!({ "input": error.input, "code": error.code, "message": error.message })
            })
            .collect();
        let params = json!({ "inputs": inputs });
        Self::unprocessable("invalid-input", "Invalid input", detail, params)
    }

    fn unavailable(status: StatusCode, detail: &str) -> Self {
        Self::new(
            status,
            "unavailable",
            "Unavailable",
            detail.to_owned(),
            json!({}),
        )
    }

    /// Secrets cannot be used now.
    fn sealed(detail: String) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "sealed",
            "Sealed",
            detail,
            json!({}),
        )
    }

    fn conflict(code: &'static str, detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, code, "Conflict", detail, json!({}))
    }

    const fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: String,
        params: serde_json::Value,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail,
            params,
        }
    }

    fn unprocessable(
        code: &'static str,
        title: &'static str,
        detail: String,
        params: serde_json::Value,
    ) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            code,
            title,
            detail,
            params,
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let reference = steward_shared::id::RunId::by_time().to_string();
        if self.status.is_server_error() {
            tracing::error!(
                reference,
                code = self.code,
                detail = self.detail,
                "answered with an error"
            );
        }
        let body = json!({
            "type": format!("urn:steward:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
            "params": self.params,
            "ref": reference,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                Self::unavailable(StatusCode::INSUFFICIENT_STORAGE, "the hub's disk is full")
            }
            StoreError::Stopped => {
                Self::unavailable(StatusCode::SERVICE_UNAVAILABLE, "the hub is stopping")
            }
            StoreError::Stale { .. } => {
                let detail = "somebody changed it at the same moment; try again";
                Self::conflict("conflict", detail.to_owned())
            }
            StoreError::Sqlite { .. }
            | StoreError::Corrupt { .. }
            | StoreError::TooNew { .. }
            | StoreError::Foreign
            | StoreError::Unwritable => Self::internal(&error),
        }
    }
}

impl From<FlowError> for Problem {
    fn from(error: FlowError) -> Self {
        let detail = error.to_string();
        match error {
            FlowError::NotFound {
                kind,
                name,
                similar,
            } => {
                let params = json!({ "kind": kind, "name": name, "similar": similar });
                Self::new(
                    StatusCode::NOT_FOUND,
                    "not-found",
                    "Not found",
                    detail,
                    params,
                )
            }
            FlowError::Conflict { kind, name, .. } => {
                let params = json!({ "kind": kind, "name": name });
                Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail, params)
            }
            FlowError::OtherRequest => Self::conflict("idempotency-mismatch", detail),
            FlowError::Inputs(errors) => Self::inputs(detail, &errors),
            FlowError::Document(error) => {
                let params =
                    json!({ "line": error.line, "column": error.column, "message": error.message });
                Self::unprocessable(
                    "invalid-document",
                    "Invalid document",
                    error.to_string(),
                    params,
                )
            }
            FlowError::Invalid { field, message } => {
                let params = json!({ "field": field, "message": message });
                Self::unprocessable("invalid", "Invalid", detail, params)
            }
            FlowError::ReasonRequired { task } => Self::unprocessable(
                "reason-required",
                "Reason required",
                detail,
                json!({ "task": task }),
            ),
            FlowError::TicketRequired { task, pattern } => {
                let params = json!({ "task": task, "pattern": pattern });
                Self::unprocessable("ticket-required", "Ticket required", detail, params)
            }
            FlowError::Changed { task } => {
                let params = json!({ "task": task });
                Self::unprocessable("changed", "Changed since it was shown", detail, params)
            }
            FlowError::NoTargets { task } => {
                Self::unprocessable("no-targets", "No targets", detail, json!({ "task": task }))
            }
            FlowError::TooLarge { limit } => Self::too_large(limit),
            FlowError::Secret(SecretError::Sealed { .. }) => Self::sealed(detail),
            FlowError::Kek(KekError::Other { .. } | KekError::Short | KekError::NoPassphrase) => {
                let params = json!({ "field": "passphrase", "message": detail });
                Self::unprocessable("invalid", "Invalid", detail, params)
            }
            FlowError::Kek(_) => Self::sealed(detail),
            FlowError::Store(error) => error.into(),
            FlowError::Misbehaved(_)
            | FlowError::Segment(_)
            | FlowError::Content(_)
            | FlowError::Damaged { .. }
            | FlowError::Secret(_)
            | FlowError::Ssh(_)
            | FlowError::Unproven
            | FlowError::Vault(_) => Self::internal(&error),
        }
    }
}
