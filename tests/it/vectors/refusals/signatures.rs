//! Envelopes that must not be believed.

use anyhow::{Result, ensure};
use steward_shared::codec;
use steward_shared::frame::{Ack, Cancel, Permit};
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::sign::{Payload, SignError, Signed, SigningKey, Verifier};

use super::super::content::{
    CANCEL, JOB_KEY, STRANGER_KEY, permit_refused, raw_envelope, raw_signature, signing_key,
};
use super::{ACCEPTED, Judge, MALFORMED, NOT_CANONICAL, NOT_SIGNED, Refused, reason};

/// Where the parts of a cancel's envelope begin.
const BODY: usize = 33;
const SIGNATURE: usize = 85;

/// A name, a note and an envelope.
type Case = (&'static str, &'static str, Vec<u8>);

/// Envelopes with something wrong.
pub(super) fn vectors() -> Result<Vec<Refused>> {
    let mut all = Vec::new();
    for (name, note, bytes) in forged()? {
        let names = (name, "signed<cancel>", note);
        all.push(Refused::new(
            names,
            bytes,
            NOT_SIGNED,
            believer::<Cancel>()?,
        ));
    }
    let refused = Signed::new(&permit_refused(""), &signing_key(JOB_KEY)?)?;
    let refused = codec::encode(&refused, FRAME_BYTES_MAX)?;
    let note = "a permit-refused without a reason, which has the bytes of a permit";
    let names = ("purpose-of-refusal", "signed<permit>", note);
    all.push(Refused::new(
        names,
        refused,
        NOT_SIGNED,
        believer::<Permit>()?,
    ));
    all.extend(signed_wrongly()?);
    Ok(all)
}

/// Envelopes of a cancel that nobody trusted has signed as it stands there.
fn forged() -> Result<[Case; 7]> {
    let good = cancel(&signing_key(JOB_KEY)?)?;
    let stranger = cancel(&signing_key(STRANGER_KEY)?)?;
    let body = &good[BODY..SIGNATURE - 1];
    let with = |at: usize, bit: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= bit;
        bytes
    };
    let bare = [&good[..SIGNATURE], &raw_signature(JOB_KEY, body)?].concat();
    let borrowed = [&good[..BODY], &stranger[BODY..]].concat();
    let as_ack = raw_envelope(JOB_KEY, Ack::TYPE, body)?;
    let unreduced = unreduced(&good);
    Ok([
        ("body-altered", "one bit of the attempt", with(BODY + 40, 1)),
        ("signature-altered", "one bit of R", with(SIGNATURE, 16)),
        ("signature-of-stranger", "not a trusted key", stranger),
        (
            "signature-under-borrowed-id",
            "a trusted key's id",
            borrowed,
        ),
        (
            "signature-not-reduced",
            "S and the group's order",
            unreduced,
        ),
        ("signature-without-purpose", "over the body alone", bare),
        ("purpose-of-ack", "a cancel, signed as an ack", as_ack),
    ])
}

/// Envelopes whose signature holds, or cannot be read, and whose content is no message.
fn signed_wrongly() -> Result<Vec<Refused>> {
    let good = cancel(&signing_key(JOB_KEY)?)?;
    ensure!(
        good.get(81..SIGNATURE) == Some(&[251, 103, 18, 64]),
        "the parts lie elsewhere"
    );
    let (body, fence) = (&good[BODY..SIGNATURE - 1], &[252, 103, 18, 0, 0]);
    let short = [
        &good[..SIGNATURE - 1],
        &[63],
        &good[SIGNATURE..SIGNATURE + 63],
    ]
    .concat();
    let longer = raw_envelope(JOB_KEY, Cancel::TYPE, &[body, &[0]].concat())?;
    let overlong = raw_envelope(JOB_KEY, Cancel::TYPE, &[&body[..48], fence].concat())?;
    let cut = raw_envelope(JOB_KEY, Permit::TYPE, body)?;
    let cancel = |name, note| (name, "signed<cancel>", note);
    let names = (
        "signed-cut",
        "signed<permit>",
        "the body of a cancel, signed as a permit",
    );
    Ok(vec![
        Refused::new(
            cancel("signature-short", "63 bytes"),
            short,
            MALFORMED,
            believer::<Cancel>()?,
        ),
        Refused::new(
            cancel("signed-trailing", "a byte after the body"),
            longer,
            MALFORMED,
            believer::<Cancel>()?,
        ),
        Refused::new(
            cancel("signed-not-canonical", "its fence takes five bytes"),
            overlong,
            NOT_CANONICAL,
            believer::<Cancel>()?,
        ),
        Refused::new(names, cut, MALFORMED, believer::<Permit>()?),
    ])
}

fn cancel(key: &SigningKey) -> Result<Vec<u8>> {
    Ok(codec::encode(&Signed::new(&CANCEL, key)?, FRAME_BYTES_MAX)?)
}

/// A judge of envelopes that believes the job key and no other.
fn believer<T: Payload + 'static>() -> Result<Judge> {
    let verifier = Verifier::new(&signing_key(JOB_KEY)?.public())?;
    Ok(Box::new(move |bytes| {
        let read: Result<Signed<T>, _> = codec::decode(bytes, FRAME_BYTES_MAX);
        match read.map(|signed| signed.verify([&verifier])) {
            Ok(Ok(_)) => ACCEPTED,
            Ok(Err(SignError::NotSigned)) => NOT_SIGNED,
            Ok(Err(SignError::Malformed(error))) | Err(error) => reason(error),
        }
    }))
}

/// The same signature in the form that RFC 8032 forbids: S and the order of the group.
fn unreduced(envelope: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = envelope.to_vec();
    let start = bytes.len().saturating_sub(32);
    let mut carry = 0;
    for (byte, order) in bytes.iter_mut().skip(start).zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        carry = sum >> 8;
        *byte = u8::try_from(sum & 0xff).unwrap_or(0);
    }
    bytes
}
