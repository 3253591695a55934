//! The server of HTTP of a target, as the API has it.

use serde::{Deserialize, Serialize};
use steward_shared::template::{HttpTarget, Tls, authority};
use utoipa::ToSchema;

use crate::flow::error::FlowError;

/// The server of HTTP of a target.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetHttp {
    /// The TCP port; 443, or 80 without TLS, when absent.
    port: Option<u16>,
    /// `verify` where the server proves who it is, or `off`.
    #[serde(default = "verify")]
    tls: String,
    /// The authorities under which its certificate is believed, PEM.
    #[serde(default)]
    authorities: Vec<String>,
    /// The name that its certificate has and that it is asked by; the target's address when absent.
    host: Option<String>,
}

fn verify() -> String {
    Tls::Verify.to_string()
}

impl From<HttpTarget> for TargetHttp {
    fn from(http: HttpTarget) -> Self {
        Self {
            port: Some(http.port),
            tls: http.tls.to_string(),
            authorities: http.authorities,
            host: http.host,
        }
    }
}

/// What was given, checked.
///
/// # Errors
/// [`FlowError::Invalid`].
pub(super) fn http(given: &TargetHttp) -> Result<HttpTarget, FlowError> {
    let tls = match given.tls.as_str() {
        "verify" => Tls::Verify,
        "off" => Tls::Off,
        _ => return Err(FlowError::invalid("http.tls", "tls is verify or off")),
    };
    let port = given.port.unwrap_or_else(|| HttpTarget::port(tls));
    if port == 0 {
        return Err(FlowError::invalid("http.port", "a port is 1 to 65535"));
    }
    let authorities = given.authorities.iter().map(|pem| authority(pem));
    let host = given.host.as_deref().map(HttpTarget::host).transpose();
    Ok(HttpTarget {
        port,
        tls,
        authorities: authorities
            .collect::<Result<_, _>>()
            .map_err(|rule| FlowError::invalid("http.authorities", rule))?,
        host: host.map_err(|rule| FlowError::invalid("http.host", rule))?,
    })
}
