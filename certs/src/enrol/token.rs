//! The join token: all that a bridge needs to find its hub, to know it, and to be let in once.
//!
//! `stb_` and, in base64url, a version, the hub's addresses, the authority's pin, the secret, and a
//! checksum: a token cut short or mistyped is told apart from one that is wrong.
//! Made by the hub, which keeps only the secret's hash; read by `steward-bridge enroll`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use steward_shared::codec;
use steward_shared::job::Digest;
use steward_shared::secret::Secret;
use zeroize::Zeroizing;

use crate::fingerprint::Pin;

/// What every token begins with, for people and for scanners of secrets.
pub const PREFIX: &str = "stb_";

/// Addresses that a token may hold.
pub const ADDRESSES_MAX: usize = 8;

/// Characters of a token.
pub const TOKEN_CHARS_MAX: usize = 4096;

/// What lets its bearer enrol one bridge, once.
pub struct Token {
    hub: Vec<String>,
    pin: Pin,
    secret: JoinSecret,
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not `host:port`, or none, or too many.
    #[error("a join token holds one to 8 addresses of the form host:port")]
    Address,
    /// Some characters are missing, or wrong.
    #[error("the join token is incomplete or mistyped: copy it again, all of it")]
    Damaged,
    /// Something else.
    #[error("not a join token: it begins with stb_")]
    NotAToken,
    /// The system gives no randomness.
    #[error("cannot make a join token: the system gives no randomness")]
    Random,
    /// Made by a hub of another version.
    #[error("the join token has version {0}, which this program does not know")]
    Version(u8),
}

impl Token {
    /// A new token for a hub at these addresses (`host:port`), under this authority.
    ///
    /// # Errors
    /// [`TokenError`] when the addresses are none, or there is no randomness.
    pub fn new(hub: Vec<String>, pin: Pin) -> Result<Self, TokenError> {
        check(&hub)?;
        let mut secret = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(secret.as_mut_slice()).map_err(|_| TokenError::Random)?;
        Ok(Self {
            hub,
            pin,
            secret: JoinSecret(secret),
        })
    }

    /// Where the hub can be reached; to be tried in this order.
    pub fn hub(&self) -> &[String] {
        &self.hub
    }

    /// The key of the authority that the hub must belong to.
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// What is sent to the hub, once it is known to be the right one.
    pub const fn secret(&self) -> &JoinSecret {
        &self.secret
    }

    /// The token as people pass it on: shown once, kept nowhere.
    pub fn text(&self) -> Secret {
        // Addresses are few and short, so that the encoding always fits.
        let body = Body {
            hub: self.hub.clone(),
            pin: self.pin,
            secret: self.secret.clone(),
        };
        let encoded = Zeroizing::new(codec::encode(&body, TOKEN_CHARS_MAX).unwrap_or_default());
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + encoded.len() + CHECKSUM_BYTES));
        bytes.push(VERSION);
        bytes.extend_from_slice(&encoded);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let mut text = String::with_capacity(PREFIX.len() + bytes.len() * 4 / 3 + 1);
        text.push_str(PREFIX);
        BASE64URL.encode_string(&bytes, &mut text);
        Secret::from(text)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        if text.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = BASE64URL.decode(text).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| TokenError::Damaged)?;
        let (content, sum) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(TokenError::Damaged)?;
        if checksum(content) != *sum {
            return Err(TokenError::Damaged);
        }
        match content {
            [VERSION, encoded @ ..] => {
                let body: Body =
                    codec::decode(encoded, TOKEN_CHARS_MAX).map_err(|_| TokenError::Damaged)?;
                check(&body.hub)?;
                Ok(Self {
                    hub: body.hub,
                    pin: body.pin,
                    secret: body.secret,
                })
            }
            [version, ..] => Err(TokenError::Version(*version)),
            [] => Err(TokenError::Damaged),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("hub", &self.hub)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

/// The secret part of a join token: 32 random bytes, sent once, never shown.
#[derive(Clone)]
pub struct JoinSecret(Zeroizing<[u8; 32]>);

impl JoinSecret {
    /// SHA-256 of it: all that a hub keeps, and by which it finds the token's row.
    pub fn hash(&self) -> Digest {
        Digest::of(self.0.as_slice())
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(…)")
    }
}

impl Serialize for JoinSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return Err(ser::Error::custom("a join secret is never written as text"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JoinSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Err(de::Error::custom("a join secret is never written as text"));
        }
        <[u8; 32]>::deserialize(deserializer).map(|bytes| Self(Zeroizing::new(bytes)))
    }
}

/// Whether these are addresses that a hub can be called at.
pub(super) fn check(hub: &[String]) -> Result<(), TokenError> {
    let usual =
        (1..=ADDRESSES_MAX).contains(&hub.len()) && hub.iter().all(|address| is_address(address));
    if usual {
        Ok(())
    } else {
        Err(TokenError::Address)
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_is_usual = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            rustls_pki_types::DnsName::try_from(host).is_ok()
                || host.parse::<std::net::Ipv4Addr>().is_ok()
        }
    };
    host_is_usual
        && port.bytes().all(|digit| digit.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[derive(Serialize, Deserialize)]
struct Body {
    hub: Vec<String>,
    pin: Pin,
    secret: JoinSecret,
}

const VERSION: u8 = 1;

const CHECKSUM_BYTES: usize = 4;

/// Against slips, not against liars: those do not know the secret.
fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let Digest([a, b, c, d, ..]) = Digest::of(content);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let hub = vec![
            "hub.example.org:8443".to_owned(),
            "[2001:db8::1]:8443".to_owned(),
        ];
        Token::new(hub, Pin::of_spki(b"authority")).unwrap()
    }

    fn text(token: &Token) -> String {
        token.text().expose_text().unwrap().to_owned()
    }

    #[test]
    fn token_is_read_back_from_its_text() {
        let token = token();
        let read: Token = text(&token).parse().unwrap();
        assert_eq!((read.hub(), read.pin()), (token.hub(), token.pin()));
        assert_eq!(read.secret().hash(), token.secret().hash());
        assert_eq!(text(&read), text(&token));
    }

    #[test]
    fn slip_in_any_character_is_noticed() {
        let text = text(&token());
        for at in 0..text.len() {
            for other in (b'!'..=b'~').filter(|other| *other != text.as_bytes()[at]) {
                let mut wrong = text.clone().into_bytes();
                wrong[at] = other;
                let read = String::from_utf8(wrong).unwrap().parse::<Token>();
                let expected = if at < PREFIX.len() {
                    TokenError::NotAToken
                } else {
                    TokenError::Damaged
                };
                assert_eq!(
                    read.unwrap_err(),
                    expected,
                    "character {at} as {}",
                    char::from(other)
                );
            }
        }
    }

    #[test]
    fn token_cut_short_or_run_on_is_noticed() {
        let text = text(&token());
        for end in PREFIX.len()..text.len() {
            assert_eq!(
                text[..end].parse::<Token>().unwrap_err(),
                TokenError::Damaged,
                "{end}"
            );
        }
        for wrong in [
            format!("{text}A"),
            format!("{text}\n"),
            format!("{text}{text}"),
            PREFIX.repeat(5000),
        ] {
            assert_eq!(wrong.parse::<Token>().unwrap_err(), TokenError::Damaged);
        }
        assert_eq!("".parse::<Token>().unwrap_err(), TokenError::NotAToken);
    }

    #[test]
    fn token_of_another_version_says_so() {
        let mut bytes = vec![2, 1, 2, 3];
        bytes.extend_from_slice(&checksum(&[2, 1, 2, 3]));
        let mut text = PREFIX.to_owned();
        BASE64URL.encode_string(&bytes, &mut text);
        assert_eq!(text.parse::<Token>().unwrap_err(), TokenError::Version(2));
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let token = token();
        let shown = format!("{token:?} {:?}", token.secret());
        assert!(
            shown.contains("hub.example.org") && shown.contains("JoinSecret(…)"),
            "{shown}"
        );
        let secret = format!("{:?}", token.secret.0.as_slice());
        assert!(!shown.contains(secret.trim_matches(['[', ']'])));
    }

    #[test]
    fn only_addresses_of_hosts_are_taken() {
        for wrong in [
            "",
            "hub",
            "hub:0",
            "hub:65536",
            "hub:+1",
            ":8443",
            "a b:1",
            "2001:db8::1",
            "[::1:1",
            "http://hub:1",
        ] {
            let read = Token::new(vec![wrong.to_owned()], Pin::of_spki(b"authority"));
            assert_eq!(read.unwrap_err(), TokenError::Address, "{wrong}");
        }
        assert_eq!(
            Token::new(Vec::new(), Pin::of_spki(b"a")).unwrap_err(),
            TokenError::Address
        );
        assert!(Token::new(vec!["127.0.0.1:4433".to_owned()], Pin::of_spki(b"a")).is_ok());
    }
}
