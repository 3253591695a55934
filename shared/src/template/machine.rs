//! How a machine is reached over SSH, as its target's document says it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::document::TemplateError;
use super::draft::object_name;
use super::quantity::{DURATION_GRAMMAR, duration_ms};
use crate::limits::{
    HOST_AUTHORITIES_MAX, HOST_KEY_CHARS_MAX, HOST_KEYS_MAX, SOURCES_MAX, SSH_REUSE_MAX,
};

/// How a target is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshTarget {
    /// The TCP port.
    pub port: u16,
    /// The host keys that it may show, in OpenSSH's format without a comment.
    pub host_keys: Vec<String>,
    /// The authorities whose host certificates it may show instead.
    #[serde(default)]
    pub host_authorities: Vec<String>,
    /// Older algorithms that may be used with it.
    #[serde(default)]
    pub algorithms: Vec<String>,
    /// The addresses and networks from which the target sees its bridge, where that is not the bridge's own: a
    /// certificate is good from there only.
    #[serde(default)]
    pub sources: Vec<String>,
    /// How long a connection waits for another attempt, in milliseconds; 0 where each attempt has its own.
    #[serde(default)]
    pub reuse_ms: u64,
    /// The target through which it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump: Option<Box<Way>>,
}

/// The way to a target through another one, by names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The other target.
    pub target: String,
    /// The credential whose account is used there.
    pub credential: String,
}

impl Default for SshTarget {
    fn default() -> Self {
        Self {
            port: 22,
            host_keys: Vec::new(),
            host_authorities: Vec::new(),
            algorithms: Vec::new(),
            sources: Vec::new(),
            reuse_ms: 0,
            jump: None,
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
    host_authorities: Vec<Spanned<String>>,
    #[serde(default)]
    algorithms: Vec<Spanned<String>>,
    #[serde(default)]
    sources: Vec<Spanned<String>>,
    reuse: Option<Spanned<String>>,
    jump: Option<WayDraft>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WayDraft {
    target: Spanned<String>,
    credential: Spanned<String>,
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
        let host_keys = keys(self.host_keys, HOST_KEYS_MAX, "host keys")?;
        let host_authorities = keys(
            self.host_authorities,
            HOST_AUTHORITIES_MAX,
            "host authorities",
        )?;
        let mut algorithms = Vec::new();
        for name in self.algorithms {
            let place = name.referenced;
            let name = algorithm(&name.value).map_err(|rule| TemplateError::at(place, rule))?;
            if algorithms.contains(&name) {
                return Err(TemplateError::at(place, "the algorithm is given twice"));
            }
            algorithms.push(name);
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
        let reuse_ms = match self.reuse {
            None => 0,
            Some(given) => {
                let place = given.referenced;
                let ms = duration_ms(&given.value).ok_or_else(|| {
                    TemplateError::at(place, format!("expected {DURATION_GRAMMAR}"))
                })?;
                reuse(ms).map_err(|rule| TemplateError::at(place, rule))?
            }
        };
        Ok(SshTarget {
            port,
            host_keys,
            host_authorities,
            algorithms,
            sources,
            reuse_ms,
            jump: self.jump.map(WayDraft::way).transpose()?.map(Box::new),
        })
    }
}

impl WayDraft {
    fn way(self) -> Result<Way, TemplateError> {
        Ok(Way {
            target: object_name(self.target)?,
            credential: object_name(self.credential)?,
        })
    }
}

fn keys(
    given: Vec<Spanned<String>>,
    most: usize,
    what: &str,
) -> Result<Vec<String>, TemplateError> {
    let mut keys = Vec::new();
    for key in given {
        let place = key.referenced;
        let key = host_key(&key.value).map_err(|rule| TemplateError::at(place, rule))?;
        if keys.contains(&key) {
            return Err(TemplateError::at(place, "the key is given twice"));
        }
        if keys.len() == most {
            let message = format!("a target has at most {most} {what}");
            return Err(TemplateError::at(place, message));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// What a target may need besides what is used by itself: each is weak, and is taken for it alone.
pub const OLDER_ALGORITHMS: [&str; 8] = [
    "aes128-cbc",
    "aes192-cbc",
    "aes256-cbc",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group14-sha1",
    "hmac-sha1",
    "ssh-rsa",
];

/// The name of an older algorithm.
///
/// # Errors
/// A sentence that says which there are.
pub fn algorithm(name: &str) -> Result<String, String> {
    if OLDER_ALGORITHMS.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "an older algorithm is one of {}; others are used by themselves, or never",
        OLDER_ALGORITHMS.join(", ")
    ))
}

/// How long a connection may wait for another attempt, in milliseconds; 0 is not at all.
///
/// # Errors
/// A sentence that says how long that may be.
pub fn reuse(ms: u64) -> Result<u64, String> {
    let most = SSH_REUSE_MAX.as_secs();
    if ms > 0 && !(1000..=most * 1000).contains(&ms) {
        return Err(format!(
            "a connection is kept for 1s to {}m, or 0s for not at all",
            most / 60
        ));
    }
    Ok(ms)
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
