//! How a machine is reached over SSH, as its target's document says it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::document::TemplateError;
use crate::limits::{HOST_KEY_CHARS_MAX, HOST_KEYS_MAX, SOURCES_MAX};

/// How a target is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshTarget {
    /// The TCP port.
    pub port: u16,
    /// The host keys that it may show, in OpenSSH's format without a comment.
    pub host_keys: Vec<String>,
    /// The addresses and networks from which the target sees its bridge, where that is not the bridge's own: a
    /// certificate is good from there only.
    #[serde(default)]
    pub sources: Vec<String>,
}

impl Default for SshTarget {
    fn default() -> Self {
        Self {
            port: 22,
            host_keys: Vec::new(),
            sources: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SshDraft {
    port: Option<Spanned<u32>>,
    #[serde(default)]
    host_keys: Vec<Spanned<String>>,
    #[serde(default)]
    sources: Vec<Spanned<String>>,
}

impl SshDraft {
    /// The target, or the first thing that is wrong.
    pub(super) fn ssh(self) -> Result<SshTarget, TemplateError> {
        let port = match self.port {
            None => SshTarget::default().port,
            Some(port) => u16::try_from(port.value)
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| TemplateError::at(port.referenced, "a port is 1 to 65535"))?,
        };
        let mut host_keys = Vec::new();
        for key in self.host_keys {
            let place = key.referenced;
            let key = host_key(&key.value).map_err(|rule| TemplateError::at(place, rule))?;
            if host_keys.contains(&key) {
                return Err(TemplateError::at(place, "the host key is given twice"));
            }
            if host_keys.len() == HOST_KEYS_MAX {
                let message = format!("a target has at most {HOST_KEYS_MAX} host keys");
                return Err(TemplateError::at(place, message));
            }
            host_keys.push(key);
        }
        let mut sources = Vec::new();
        for given in self.sources {
            let place = given.referenced;
            let source = source(&given.value).map_err(|rule| TemplateError::at(place, rule))?;
            if sources.len() == SOURCES_MAX {
                let message = format!("a target has at most {SOURCES_MAX} sources");
                return Err(TemplateError::at(place, message));
            }
            sources.push(source);
        }
        Ok(SshTarget {
            port,
            host_keys,
            sources,
        })
    }
}

/// An address, or a network as ADDRESS/BITS.
///
/// # Errors
/// A sentence that says what a source is.
pub fn source(text: &str) -> Result<String, &'static str> {
    const RULE: &str =
        "a source is an IP address, or a network as ADDRESS/BITS whose other bits are 0";
    let (address, bits) = text
        .split_once('/')
        .map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| RULE)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    match bits.map(str::parse::<u8>) {
        None => Ok(address.to_string()),
        Some(Ok(bits)) if bits <= most && is_network(address, bits) => {
            Ok(format!("{address}/{bits}"))
        }
        Some(_) => Err(RULE),
    }
}

/// A host key as `ssh-keyscan` and the files of OpenSSH show it (RFC 4253, 6.6): its algorithm and its base64,
/// without the comment.
///
/// # Errors
/// A sentence that says what a host key is.
pub fn host_key(text: &str) -> Result<String, &'static str> {
    const RULE: &str =
        "a host key is its algorithm and its base64, as in the host's /etc/ssh/ssh_host_*_key.pub";
    let mut words = text.split_ascii_whitespace();
    let (Some(algorithm), Some(key)) = (words.next(), words.next()) else {
        return Err(RULE);
    };
    let known = [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
    ];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let starts = key.starts_with("AAAA");
    if !known.contains(&algorithm)
        || !starts
        || key.len() > HOST_KEY_CHARS_MAX
        || !key.chars().all(plain)
    {
        return Err(RULE);
    }
    Ok(format!("{algorithm} {key}"))
}

/// OpenSSH refuses a network with bits beyond its own.
fn is_network(address: IpAddr, bits: u8) -> bool {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_shl(bits.into()).unwrap_or(0) == 0,
        IpAddr::V6(v6) => v6.to_bits().checked_shl(bits.into()).unwrap_or(0) == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_an_address_or_a_network() {
        for good in [
            "10.0.0.5",
            "10.0.0.0/8",
            "10.0.0.5/32",
            "::/0",
            "fd00::/8",
            "0.0.0.0/0",
        ] {
            assert_eq!(source(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "10.0.0.5/8",
            "10.0.0.0/33",
            "fd00::1/8",
            "host",
            "10.0.0.0/",
            "*",
            "1.2.3.4,::/0",
        ] {
            assert!(source(bad).is_err(), "{bad}");
        }
    }
}
