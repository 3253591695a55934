//! Enrolment: what a bridge with a join token says to the hub, and what the hub answers.
//!
//! One request and one answer on a stream of their own protocol; each is one encoding of
//! `shared::codec` within `ENROL_BYTES_MAX`, ended by the stream's end.
//! The bridge sends its request only after the handshake has shown the pinned authority.
//! Called by `enroll` of the bridge and by the hub's link.

mod token;

use serde::{Deserialize, Serialize};
use steward_shared::codec::{self, CodecError};
use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::job::Digest;
use steward_shared::limits::{ENROL_BYTES_MAX, NAME_CHARS_MAX, TEXT_CHARS_MAX};
use steward_shared::sign::{KeyError, Payload, PublicKey, SignError, Signed, SigningKey, Verifier};
use steward_shared::trust::{TrustDocument, TrustRefusal, Trusted};

use crate::fingerprint::Pin;
use crate::identity::{self, Identity, Role};

pub use crate::enrol::token::{
    ADDRESSES_MAX, JoinSecret, PREFIX, TOKEN_CHARS_MAX, Token, TokenError,
};

/// From a bridge that is to be enrolled.
#[derive(Debug, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The secret of the join token.
    pub secret: JoinSecret,
    /// The name that the token was made for.
    pub name: String,
    /// Signing request (PKCS#10, DER) of the bridge's TLS key.
    #[serde(with = "serde_bytes")]
    pub request: Vec<u8>,
    /// The key that the bridge will sign receipts with.
    pub receipt_key: PublicKey,
    /// The program's version.
    pub version: String,
    /// The receipt key's signature, over what it is used for.
    pub proof: Signed<EnrolStatement>,
}

/// What the receipt key signs to show that the bridge holds it (`enrol.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolStatement {
    /// The authority that the bridge means.
    pub pin: Pin,
    /// SHA-256 of the signing request.
    pub request: Digest,
    /// The bridge's name.
    pub name: String,
}

impl Payload for EnrolStatement {
    const TYPE: &'static str = "application/vnd.steward.enrol.v1+bincode";
}

/// From the hub; the last thing on an enrolment connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolAnswer {
    /// The bridge is enrolled.
    Enrolled(Box<Enrolment>),
    /// It is not.
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        message: String,
    },
}

/// Why a bridge is not enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalCode {
    /// The hub could not answer; the token is still good.
    Busy,
    /// The request is not one, or its proof does not hold.
    Malformed,
    /// The token is unknown, used, over, or for another name: they are not told apart.
    Token,
}

/// Everything that an enrolled bridge keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge's identity.
    pub bridge: BridgeId,
    /// Its name.
    pub name: String,
    /// The name of its site.
    pub site: String,
    /// Its certificate, DER.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// The authority's certificate, DER.
    #[serde(with = "serde_bytes")]
    pub authority: Vec<u8>,
    /// The newest trust document: which keys it believes.
    pub trust: Signed<TrustDocument>,
    /// The key that has signed it.
    pub trust_key: PublicKey,
    /// Where the hub can be reached, `host:port`.
    pub hub: Vec<String>,
}

/// Why a request or an answer is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// It cannot be sent, or what came is none.
    #[error("cannot read or write a message of enrolment")]
    Codec(#[from] CodecError),
    /// The answer is for another bridge, key or cluster than its own parts say.
    #[error("the hub's answer contradicts itself in its {0}")]
    Contradiction(&'static str),
    /// A text or a list is longer than it may be, or empty.
    #[error("a message of enrolment has no usable {0}")]
    Field(&'static str),
    /// The receipt key is none.
    #[error("cannot use the receipt key of an enrolment")]
    Key(#[from] KeyError),
    /// The sender does not hold the receipt key, or means another hub, name or request.
    #[error("cannot believe the proof of an enrolment")]
    Proof(#[from] SignError),
    /// Its trust document is not to be believed.
    #[error("the hub's answer has no usable trust document")]
    Trust(#[from] TrustRefusal),
    /// The proof holds, for something else.
    #[error("the proof of an enrolment is about another hub, name or key")]
    ProofElsewhere,
}

impl EnrolRequest {
    /// The request of a bridge with this token, name, signing request and receipt key.
    ///
    /// # Errors
    /// [`EnrolError`] when a part is too long.
    pub fn new(
        token: &Token,
        name: &str,
        request: Vec<u8>,
        receipt_key: &SigningKey,
        version: &str,
    ) -> Result<Self, EnrolError> {
        let statement = EnrolStatement {
            pin: token.pin(),
            request: Digest::of(&request),
            name: name.to_owned(),
        };
        let made = Self {
            secret: token.secret().clone(),
            name: name.to_owned(),
            request,
            receipt_key: receipt_key.public(),
            version: version.to_owned(),
            proof: Signed::new(&statement, receipt_key)?,
        };
        made.check()?;
        Ok(made)
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// [`EnrolError::Codec`] when they are too many.
    pub fn encode(&self) -> Result<Vec<u8>, EnrolError> {
        Ok(codec::encode(self, ENROL_BYTES_MAX)?)
    }

    /// Reads a request and believes it as far as this hub's authorities go: its sender holds the
    /// receipt key and means this hub. Whether the token is good, the store must say.
    ///
    /// # Errors
    /// [`EnrolError`] when it is malformed or its proof does not hold.
    pub fn decode(bytes: &[u8], authorities: &[Pin]) -> Result<Self, EnrolError> {
        let read: Self = codec::decode(bytes, ENROL_BYTES_MAX)?;
        read.check()?;
        let statement = read.proof.verify([&Verifier::new(&read.receipt_key)?])?;
        let meant = EnrolStatement {
            pin: statement.pin,
            request: Digest::of(&read.request),
            name: read.name.clone(),
        };
        if statement == meant && authorities.contains(&statement.pin) {
            Ok(read)
        } else {
            Err(EnrolError::ProofElsewhere)
        }
    }

    fn check(&self) -> Result<(), EnrolError> {
        text("name", &self.name, NAME_CHARS_MAX)?;
        text("version", &self.version, NAME_CHARS_MAX)
    }
}

impl EnrolAnswer {
    /// The bytes to send.
    ///
    /// # Errors
    /// [`EnrolError`] when a part is too long.
    pub fn encode(&self) -> Result<Vec<u8>, EnrolError> {
        self.check()?;
        Ok(codec::encode(self, ENROL_BYTES_MAX)?)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`EnrolError`] when it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolError> {
        let read: Self = codec::decode(bytes, ENROL_BYTES_MAX)?;
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), EnrolError> {
        match self {
            Self::Enrolled(enrolment) => enrolment.check(),
            Self::Refused { message, .. } => text("message", message, TEXT_CHARS_MAX),
        }
    }
}

impl Enrolment {
    /// Its trust document, read.
    ///
    /// # Errors
    /// [`EnrolError::Trust`] when it cannot be believed.
    pub fn trusted(&self) -> Result<Trusted, EnrolError> {
        let signed = self.trust.clone();
        Ok(Trusted::given(signed, self.cluster, &self.trust_key)?)
    }

    /// Whether an answer is what was asked for: under the pinned authority, for this TLS key.
    ///
    /// # Errors
    /// [`EnrolError::Contradiction`] when it is not; the bridge keeps nothing of it.
    pub fn verify(&self, authority: &Pin, key: &Pin) -> Result<(), EnrolError> {
        let no = EnrolError::Contradiction;
        let trusted = self.trusted()?;
        let roots = &trusted.document().roots;
        let believed = |pin: &Pin| roots.contains(&Digest(*pin.as_bytes()));
        // A token of before a change of authority is good while both are.
        if !believed(authority)
            || !Pin::of_certificate(&self.authority).is_ok_and(|pin| believed(&pin))
        {
            return Err(no("authority"));
        }
        if identity::cluster_of_authority(&self.authority) != Ok(self.cluster) {
            return Err(no("cluster"));
        }
        if Pin::of_certificate(&self.certificate) != Ok(*key) {
            return Err(no("key"));
        }
        let expected = Identity {
            cluster: self.cluster,
            role: Role::Bridge(self.bridge),
        };
        if Identity::of_certificate(&self.certificate) != Ok(expected) {
            return Err(no("identity"));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), EnrolError> {
        text("name", &self.name, NAME_CHARS_MAX)?;
        text("site", &self.site, NAME_CHARS_MAX)?;
        self.trusted()?;
        token::check(&self.hub).map_err(|_| EnrolError::Field("hub addresses"))
    }
}

fn text(field: &'static str, text: &str, chars_max: usize) -> Result<(), EnrolError> {
    let usual = !text.is_empty()
        && text.chars().count() <= chars_max
        && !text.chars().any(char::is_control);
    if usual {
        Ok(())
    } else {
        Err(EnrolError::Field(field))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steward_shared::time::Timestamp;

    use super::*;
    use crate::authority::Authority;
    use crate::key::Key;

    const NOW: Timestamp = Timestamp::from_millis(1_795_312_577_042);

    fn signing_key() -> SigningKey {
        SigningKey::from_seed(&SigningKey::new_seed().unwrap()).unwrap()
    }

    fn first_document(
        authority: &Authority,
        key: &SigningKey,
        job_keys: Vec<PublicKey>,
    ) -> Signed<TrustDocument> {
        let document = TrustDocument {
            cluster: authority.cluster(),
            version: 1,
            previous: Digest([0; 32]),
            issued_at: NOW,
            expires: NOW.after(Duration::from_secs(86_400)),
            trust_key: key.public(),
            job_keys,
            roots: vec![Digest(*authority.pin().as_bytes())],
        };
        Signed::new(&document, key).unwrap()
    }

    fn token(authority: &Authority) -> Token {
        Token::new(vec!["hub.example.org:8443".to_owned()], authority.pin()).unwrap()
    }

    #[test]
    fn bridge_and_hub_agree_on_an_enrolment() {
        let authority = Authority::create(ClusterId::random(), NOW).unwrap();
        let (token, key, receipts) = (token(&authority), Key::generate().unwrap(), signing_key());
        let request =
            EnrolRequest::new(&token, "dmz-1", key.request().unwrap(), &receipts, "0.1.0").unwrap();

        let read = EnrolRequest::decode(&request.encode().unwrap(), &[authority.pin()]).unwrap();
        assert_eq!(read.secret.hash(), token.secret().hash());
        assert_eq!(
            (read.name.as_str(), read.receipt_key),
            ("dmz-1", receipts.public())
        );

        let (bridge, trust_key) = (BridgeId::random(), signing_key());
        let day = Duration::from_secs(86_400);
        let enrolment = Enrolment {
            cluster: authority.cluster(),
            bridge,
            name: read.name,
            site: "dmz".to_owned(),
            certificate: authority
                .issue_bridge(&read.request, bridge, NOW, day)
                .unwrap()
                .to_vec(),
            authority: authority.certificate_der().to_vec(),
            trust: first_document(&authority, &trust_key, vec![signing_key().public()]),
            trust_key: trust_key.public(),
            hub: token.hub().to_vec(),
        };
        let answer = EnrolAnswer::Enrolled(Box::new(enrolment.clone()));
        assert_eq!(EnrolAnswer::decode(&answer.encode().unwrap()), Ok(answer));
        assert_eq!(enrolment.verify(&authority.pin(), &key.pin()), Ok(()));

        let other = Key::generate().unwrap().pin();
        let no = EnrolError::Contradiction;
        assert_eq!(enrolment.verify(&authority.pin(), &other), Err(no("key")));
        assert_eq!(enrolment.verify(&other, &key.pin()), Err(no("authority")));
        let elsewhere = Enrolment {
            cluster: ClusterId::random(),
            ..enrolment.clone()
        };
        assert_eq!(
            elsewhere.verify(&authority.pin(), &key.pin()),
            Err(EnrolError::Trust(TrustRefusal::OtherCluster))
        );
        let foreign = Authority::create(ClusterId::random(), NOW).unwrap();
        let other_roots = Enrolment {
            authority: foreign.certificate_der().to_vec(),
            ..enrolment.clone()
        };
        assert_eq!(
            other_roots.verify(&authority.pin(), &key.pin()),
            Err(no("authority"))
        );
        let another = Enrolment {
            bridge: BridgeId::random(),
            ..enrolment
        };
        assert_eq!(
            another.verify(&authority.pin(), &key.pin()),
            Err(no("identity"))
        );
    }

    #[test]
    fn request_is_believed_only_as_a_whole_and_only_here() {
        let authority = Authority::create(ClusterId::random(), NOW).unwrap();
        let (token, key, receipts) = (token(&authority), Key::generate().unwrap(), signing_key());
        let make = || {
            EnrolRequest::new(&token, "dmz-1", key.request().unwrap(), &receipts, "0.1.0").unwrap()
        };
        let read = |request: EnrolRequest| {
            EnrolRequest::decode(&request.encode().unwrap(), &[authority.pin()])
                .map(|_| ())
                .unwrap_err()
        };

        let elsewhere = Pin::of_spki(b"another authority");
        let error = EnrolRequest::decode(&make().encode().unwrap(), &[elsewhere]).unwrap_err();
        assert_eq!(error, EnrolError::ProofElsewhere);
        let renamed = EnrolRequest {
            name: "dmz-2".to_owned(),
            ..make()
        };
        assert_eq!(read(renamed), EnrolError::ProofElsewhere);
        let other_key = EnrolRequest {
            request: Key::generate().unwrap().request().unwrap(),
            ..make()
        };
        assert_eq!(read(other_key), EnrolError::ProofElsewhere);
        let not_held = EnrolRequest {
            receipt_key: signing_key().public(),
            ..make()
        };
        assert_eq!(read(not_held), EnrolError::Proof(SignError::NotSigned));
    }

    #[test]
    fn answer_without_a_job_key_is_none() {
        let answer = EnrolAnswer::Refused {
            code: RefusalCode::Token,
            message: "no".to_owned(),
        };
        assert_eq!(EnrolAnswer::decode(&answer.encode().unwrap()), Ok(answer));
        let authority = Authority::create(ClusterId::random(), NOW).unwrap();
        let trust_key = signing_key();
        let empty = Enrolment {
            cluster: authority.cluster(),
            bridge: BridgeId::random(),
            name: "dmz-1".to_owned(),
            site: "dmz".to_owned(),
            certificate: Vec::new(),
            authority: Vec::new(),
            trust: first_document(&authority, &trust_key, Vec::new()),
            trust_key: trust_key.public(),
            hub: vec!["hub:1".to_owned()],
        };
        assert_eq!(
            EnrolAnswer::Enrolled(Box::new(empty)).encode(),
            Err(EnrolError::Trust(TrustRefusal::Empty))
        );
    }

    #[test]
    fn hostile_bytes_are_refused() {
        for length in [0, 1, 64, ENROL_BYTES_MAX, ENROL_BYTES_MAX + 1] {
            let bytes = vec![0xfd; length];
            assert!(
                EnrolRequest::decode(&bytes, &[Pin::of_spki(b"a")]).is_err(),
                "{length}"
            );
            assert!(EnrolAnswer::decode(&bytes).is_err(), "{length}");
        }
    }
}
