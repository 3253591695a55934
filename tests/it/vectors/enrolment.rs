//! The vectors of enrolment: certificates, the join token, the request, the answers.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use steward_certs::authority::Authority;
use steward_certs::enrol::{
    EnrolAnswer, EnrolRequest, EnrolStatement, Enrolment, RefusalCode, Token,
};
use steward_certs::fingerprint::Pin;
use steward_certs::key::Key;
use steward_shared::codec;
use steward_shared::job::Digest;
use steward_shared::limits::ENROL_BYTES_MAX;
use steward_shared::sign::Signed;
use steward_shared::trust::TrustDocument;

use super::content::{
    BRIDGE, CLUSTER, NOW, RECEIPT_KEY, TLS_KEY, TRUST_KEY, counted, raw_signature, signing_key,
    trust_document,
};
use super::vector::{Vector, envelope_fields, fields, hex, unhex};

/// Certificates, made once: their signatures are random, so they are kept and not made again.
pub(super) struct Certificates {
    pub(super) authority: Vec<u8>,
    pub(super) hub: Vec<u8>,
    pub(super) bridge: Vec<u8>,
}

impl Certificates {
    /// Makes new ones.
    pub(super) fn create() -> Result<Self> {
        let authority = Authority::create(CLUSTER, NOW)?;
        let day = Duration::from_secs(86_400);
        let names = ["hub.example.org".to_owned(), "2001:db8::1".to_owned()];
        Ok(Self {
            authority: authority.certificate_der().to_vec(),
            hub: authority
                .issue_hub(&Key::generate()?, &names, NOW, day)?
                .to_vec(),
            bridge: authority
                .issue_bridge(&signing_request()?, BRIDGE, NOW, day)?
                .to_vec(),
        })
    }

    /// Reads them from their file.
    pub(super) fn read() -> Result<Self> {
        let file = fs::read_to_string(super::path("certificates.json"))?;
        let file: Value = serde_json::from_str(&file)?;
        let der = |name: &str| {
            let all = file["vectors"].as_array().context("no certificates")?;
            let one = all.iter().find(|one| one["name"] == name);
            unhex(
                one.and_then(|one| one["hex"].as_str())
                    .context("a certificate is missing")?,
            )
        };
        Ok(Self {
            authority: der("authority")?,
            hub: der("hub")?,
            bridge: der("bridge")?,
        })
    }

    /// Each with the names in it and the pin of its key.
    pub(super) fn vectors(&self) -> Result<Vec<Vector>> {
        let hub = format!("steward://{CLUSTER}/hub");
        let bridge = format!("steward://{CLUSTER}/bridge/{BRIDGE}");
        let mut all = Vec::new();
        for (name, der, uri, note) in [
            (
                "authority",
                &self.authority,
                format!("steward://{CLUSTER}"),
                "CA:TRUE, pathlen:0, keyCertSign",
            ),
            (
                "hub",
                &self.hub,
                hub,
                "CA:FALSE, digitalSignature, serverAuth; host names beside its URI",
            ),
            (
                "bridge",
                &self.bridge,
                bridge,
                "CA:FALSE, digitalSignature, clientAuth; its URI and no other name",
            ),
        ] {
            let pin = Pin::of_certificate(der)?;
            let named = uri.clone();
            let read = move |der: &[u8]| {
                let is_authority = name == "authority";
                let named = is_authority
                    || steward_certs::identity::Identity::of_certificate(der)?.to_string() == named;
                Ok(named && Pin::of_certificate(der)? == pin)
            };
            all.push(
                Vector::new(name, "certificate", note, der.clone(), Box::new(read))
                    .with("pin", json!(pin))
                    .with("uri", json!(uri)),
            );
        }
        Ok(all)
    }

    pub(super) fn pin(&self) -> Result<Pin> {
        Ok(Pin::of_certificate(&self.authority)?)
    }
}

/// A signing request of an Ed25519 key, whose signatures are always the same; written out because it
/// is small. It has an empty subject and no attributes.
pub(super) fn signing_request() -> Result<Vec<u8>> {
    const ED25519: [u8; 7] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
    let public = signing_key(TLS_KEY)?.public().0;
    let key = [&[0x30, 42][..], &ED25519, &[3, 33, 0], &public].concat();
    let info = [&[0x30, 51, 2, 1, 0, 0x30, 0][..], &key, &[0xa0, 0]].concat();
    let signature = raw_signature(TLS_KEY, &info)?;
    Ok([&[0x30, 127][..], &info, &ED25519, &[3, 65, 0], &signature].concat())
}

/// The bytes that a token's text is of.
pub(super) fn token_bytes(version: u8, pin: Pin) -> Result<Vec<u8>> {
    let hub = vec!["hub.example.org:8443", "[2001:db8::1]:8443"];
    let body = codec::encode(&(hub, pin, counted::<32>(0x80)), ENROL_BYTES_MAX)?;
    let content = [&[version][..], &body].concat();
    let checksum = Digest::of(&content).0;
    Ok([&content[..], &checksum[..4]].concat())
}

/// The text of a token: base64url without padding, after its prefix.
pub(super) fn token_text(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = "stb_".to_owned();
    for chunk in bytes.chunks(3) {
        let mut bits = 0_usize;
        for at in 0..3 {
            bits = bits << 8 | usize::from(chunk.get(at).copied().unwrap_or(0));
        }
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[bits >> (18 - 6 * at) & 63]));
        }
    }
    text
}

/// The token of the vectors.
pub(super) fn token(pin: Pin) -> Result<Token> {
    Ok(token_text(&token_bytes(1, pin)?).parse()?)
}

/// The request that the token's bearer makes.
pub(super) fn request(pin: Pin) -> Result<EnrolRequest> {
    let receipts = signing_key(RECEIPT_KEY)?;
    Ok(EnrolRequest::new(
        &token(pin)?,
        "dmz-1",
        signing_request()?,
        &receipts,
        "0.1.0",
    )?)
}

/// Token, request and answers.
pub(super) fn vectors(certificates: &Certificates) -> Result<Vec<Vector>> {
    let pin = certificates.pin()?;
    let mut all = vec![token_vector(pin)?, request_vector(pin)?];
    let trust_key = signing_key(TRUST_KEY)?;
    let document = TrustDocument {
        roots: vec![Digest(*pin.as_bytes())],
        ..trust_document()?
    };
    let enrolment = Enrolment {
        cluster: CLUSTER,
        bridge: BRIDGE,
        name: "dmz-1".to_owned(),
        site: "dmz".to_owned(),
        certificate: certificates.bridge.clone(),
        authority: certificates.authority.clone(),
        trust: Signed::new(&document, &trust_key)?,
        trust_key: trust_key.public(),
        hub: token(pin)?.hub().to_vec(),
    };
    enrolment.verify(&pin, &Pin::of_certificate(&certificates.bridge)?)?;
    let refused = |code| EnrolAnswer::Refused {
        code,
        message: "try again, or not".to_owned(),
    };
    for (name, answer) in [
        ("enrolled", EnrolAnswer::Enrolled(Box::new(enrolment))),
        ("refused-busy", refused(RefusalCode::Busy)),
        ("refused-malformed", refused(RefusalCode::Malformed)),
        ("refused-token", refused(RefusalCode::Token)),
    ] {
        let mut shown = fields(serde_json::to_value(&answer)?);
        if let EnrolAnswer::Enrolled(enrolment) = &answer {
            shown["Enrolled"]["trust"] = envelope_fields(&enrolment.trust, &document)?;
        }
        let bytes = answer.encode()?;
        let read = move |bytes: &[u8]| Ok(EnrolAnswer::decode(bytes)? == answer);
        all.push(
            Vector::new(name, "enrol_answer", "", bytes, Box::new(read)).with("fields", shown),
        );
    }
    Ok(all)
}

fn token_vector(pin: Pin) -> Result<Vector> {
    let bytes = token_bytes(1, pin)?;
    let text = token_text(&bytes);
    let token: Token = text.parse()?;
    anyhow::ensure!(
        token.text().expose_text() == Some(&text),
        "the token is written otherwise"
    );
    let shown = json!({ "hub": token.hub(), "pin": pin, "secret": hex(&counted::<32>(0x80)) });
    let read = move |bytes: &[u8]| {
        let read: Token = token_text(bytes).parse()?;
        Ok(read.hub() == token.hub()
            && read.pin() == pin
            && read.secret().hash() == token.secret().hash())
    };
    let note = "the bytes in the text: the version, the fields, the checksum";
    Ok(Vector::new("token", "token", note, bytes, Box::new(read))
        .with("fields", shown)
        .with("text", json!(text)))
}

fn request_vector(pin: Pin) -> Result<Vector> {
    let request = request(pin)?;
    let statement = EnrolStatement {
        pin,
        request: Digest::of(&request.request),
        name: request.name.clone(),
    };
    let shown = json!({
        "secret": hex(&counted::<32>(0x80)),
        "name": request.name,
        "request": hex(&request.request),
        "receipt_key": hex(&request.receipt_key.0),
        "version": request.version,
        "proof": envelope_fields(&request.proof, &statement)?,
    });
    let bytes = request.encode()?;
    let expected = bytes.clone();
    let read = move |bytes: &[u8]| Ok(EnrolRequest::decode(bytes, &[pin])?.encode()? == expected);
    let note = "its signing request is of an Ed25519 key";
    Ok(Vector::new("request", "enrol_request", note, bytes, Box::new(read)).with("fields", shown))
}
