//! Tokens and requests for enrolment that must be refused.

use anyhow::Result;
use steward_certs::enrol::{EnrolError, EnrolRequest, Token, TokenError};
use steward_certs::fingerprint::Pin;
use steward_shared::sign::SignError;

use super::super::content::{STRANGER_KEY, signing_key};
use super::super::enrolment::{request, token_bytes, token_text};
use super::{ACCEPTED, Judge, NOT_SIGNED, Refused, reason};

pub(super) fn tokens(pin: Pin) -> Result<Vec<Refused>> {
    let text = token_text(&token_bytes(1, pin)?);
    let other = token_text(&token_bytes(2, pin)?);
    let judge: fn(&[u8]) -> &'static str = |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match text.parse::<Token>() {
            Ok(_) => ACCEPTED,
            Err(TokenError::Damaged) => "damaged",
            Err(TokenError::NotAToken) => "not_a_token",
            Err(TokenError::Version(_)) => "version",
            Err(TokenError::Address) => "address",
            Err(TokenError::Random) => "random",
        }
    };
    let cut = text.strip_suffix(|_: char| true).unwrap_or_default();
    let cases = [
        (
            "token-cut",
            "without its last character",
            cut.to_owned(),
            "damaged",
        ),
        (
            "token-mistyped",
            "a letter in another case",
            text.replacen('A', "a", 1),
            "damaged",
        ),
        (
            "token-padded",
            "base64 with its padding",
            format!("{text}="),
            "damaged",
        ),
        ("token-of-another-version", "version 2", other, "version"),
        (
            "token-of-another-kind",
            "stw_",
            text.replacen("stb_", "stw_", 1),
            "not_a_token",
        ),
    ];
    let refused = |(name, note, text, reason): (_, _, String, _)| {
        Refused::new(
            (name, "token_text", note),
            text.into_bytes(),
            reason,
            Box::new(judge),
        )
    };
    Ok(cases.into_iter().map(refused).collect())
}

pub(super) fn requests(pin: Pin) -> Result<Vec<Refused>> {
    let elsewhere = request(Pin::of_spki(b"another authority"))?;
    let renamed = EnrolRequest {
        name: "dmz-2".to_owned(),
        ..request(pin)?
    };
    let borrowed = EnrolRequest {
        receipt_key: signing_key(STRANGER_KEY)?.public(),
        ..request(pin)?
    };
    let judge: fn(&[u8], &Pin) -> &'static str =
        |bytes, pin| match EnrolRequest::decode(bytes, &[*pin]) {
            Ok(_) => ACCEPTED,
            Err(EnrolError::ProofElsewhere) => "proof_elsewhere",
            Err(EnrolError::Proof(SignError::NotSigned)) => NOT_SIGNED,
            Err(EnrolError::Codec(error) | EnrolError::Proof(SignError::Malformed(error))) => {
                reason(error)
            }
            Err(EnrolError::Contradiction(_)) => "contradiction",
            Err(EnrolError::Field(_)) => "field",
            Err(EnrolError::Key(_)) => "key",
            Err(EnrolError::Trust(_)) => "trust",
        };
    let elsewhere_is = "the proof names another authority than the vectors' own";
    let mut all = Vec::new();
    for (name, note, request, reason) in [
        (
            "request-for-another-hub",
            elsewhere_is,
            elsewhere,
            "proof_elsewhere",
        ),
        (
            "request-renamed",
            "the proof is for dmz-1",
            renamed,
            "proof_elsewhere",
        ),
        (
            "request-with-borrowed-key",
            "this key has not signed the proof",
            borrowed,
            NOT_SIGNED,
        ),
    ] {
        let judge: Judge = Box::new(move |bytes| judge(bytes, &pin));
        all.push(Refused::new(
            (name, "enrol_request", note),
            request.encode()?,
            reason,
            judge,
        ));
    }
    Ok(all)
}
