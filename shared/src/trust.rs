//! Trust documents: a numbered chain, each signed by the key that the one before it names, that says which
//! keys a bridge believes.
//!
//! Pure: the hub makes them, the bridge's runner walks from the one that it keeps to the newest.

use serde::{Deserialize, Serialize};

use crate::id::ClusterId;
use crate::job::Digest;
use crate::limits::{JOB_KEYS_MAX, ROOTS_MAX};
use crate::sign::{KeyError, Payload, PublicKey, SignError, Signed, Verifier};
use crate::time::Timestamp;

/// Whom the bridges of a cluster believe (`trust.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustDocument {
    /// The installation.
    pub cluster: ClusterId,
    /// Its number in the chain, from 1.
    pub version: u64,
    /// SHA-256 of the signed body of the document before it; zeros in the first.
    pub previous: Digest,
    /// When the hub made it.
    pub issued_at: Timestamp,
    /// No job is taken on its word after this.
    pub expires: Timestamp,
    /// The key that signs the next document.
    pub trust_key: PublicKey,
    /// The keys that sign jobs, permits and what else a job key signs, 1 to [`JOB_KEYS_MAX`].
    pub job_keys: Vec<PublicKey>,
    /// The pins of the authorities that the hub's certificates come from, the newest first, 1 to [`ROOTS_MAX`].
    pub roots: Vec<Digest>,
}

impl Payload for TrustDocument {
    const TYPE: &'static str = "application/vnd.steward.trust.v1+bincode";
}

/// Which document somebody is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustMark {
    /// Its number.
    pub version: u64,
    /// SHA-256 of its signed body: two documents of one number are a fork.
    pub document: Digest,
}

/// Why a document is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustRefusal {
    /// The key that the document before it names has not signed it.
    #[error("trust document is not signed by the key that the one before it names")]
    Unsigned(#[from] SignError),
    /// A key in it is none.
    #[error("trust document holds a key that is none")]
    Key(#[from] KeyError),
    /// It is another cluster's.
    #[error("trust document is another cluster's")]
    OtherCluster,
    /// It has the number of the one that is kept, or a lower one, and is another.
    #[error("trust document {offered} differs from what this bridge knows: it is at {kept}")]
    Back {
        /// The number of the one that is kept.
        kept: u64,
        /// Its number.
        offered: u64,
    },
    /// Documents between it and the one that is kept are missing.
    #[error("trust document {offered} does not follow the one that this bridge is at, {kept}")]
    Gap {
        /// The number of the one that is kept.
        kept: u64,
        /// Its number.
        offered: u64,
    },
    /// It follows another document of that number.
    #[error("trust document {offered} follows another document {kept} than this bridge knows")]
    Fork {
        /// The number of the one that is kept.
        kept: u64,
        /// Its number.
        offered: u64,
    },
    /// It names no keys, or too many, or ends before it begins.
    #[error("trust document says nothing that can be followed")]
    Empty,
}

/// A document that is believed.
#[derive(Debug, Clone)]
pub struct Trusted {
    signed: Signed<TrustDocument>,
    signer: PublicKey,
    document: TrustDocument,
    trust_key: Verifier,
    job_keys: Vec<Verifier>,
}

impl Trusted {
    /// A document that was handed over, with the key that has signed it, by somebody who is believed already: at
    /// enrolment, or by the disk.
    ///
    /// # Errors
    /// [`TrustRefusal`] when that key has not signed it, or it is another cluster's.
    pub fn given(
        signed: Signed<TrustDocument>,
        cluster: ClusterId,
        signer: &PublicKey,
    ) -> Result<Self, TrustRefusal> {
        let document = signed.verify([&Verifier::new(signer)?])?;
        Self::of(signed, *signer, document, cluster)
    }

    fn of(
        signed: Signed<TrustDocument>,
        signer: PublicKey,
        document: TrustDocument,
        cluster: ClusterId,
    ) -> Result<Self, TrustRefusal> {
        if document.cluster != cluster {
            return Err(TrustRefusal::OtherCluster);
        }
        let fits = (1..=JOB_KEYS_MAX).contains(&document.job_keys.len())
            && (1..=ROOTS_MAX).contains(&document.roots.len())
            && document.version > 0
            && document.issued_at < document.expires;
        if !fits {
            return Err(TrustRefusal::Empty);
        }
        let job_keys = document.job_keys.iter().map(Verifier::new);
        Ok(Self {
            trust_key: Verifier::new(&document.trust_key)?,
            job_keys: job_keys.collect::<Result<_, _>>()?,
            document,
            signer,
            signed,
        })
    }

    /// The document after this one; none where it is this one itself.
    ///
    /// # Errors
    /// [`TrustRefusal`]: what is kept stays what it is.
    pub fn followed_by(&self, next: &Signed<TrustDocument>) -> Result<Option<Self>, TrustRefusal> {
        if next.body() == self.signed.body() {
            return Ok(None);
        }
        let document = next.verify([&self.trust_key])?;
        let (kept, offered) = (self.document.version, document.version);
        if offered <= kept {
            return Err(TrustRefusal::Back { kept, offered });
        }
        if offered - kept != 1 {
            return Err(TrustRefusal::Gap { kept, offered });
        }
        if document.previous != self.mark().document {
            return Err(TrustRefusal::Fork { kept, offered });
        }
        let signer = self.document.trust_key;
        Self::of(next.clone(), signer, document, self.document.cluster).map(Some)
    }

    /// What it says.
    pub const fn document(&self) -> &TrustDocument {
        &self.document
    }

    /// As it was signed.
    pub const fn signed(&self) -> &Signed<TrustDocument> {
        &self.signed
    }

    /// The key that has signed it.
    pub const fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// The keys that sign jobs.
    pub fn job_keys(&self) -> &[Verifier] {
        &self.job_keys
    }

    /// Which one it is.
    pub fn mark(&self) -> TrustMark {
        TrustMark {
            version: self.document.version,
            document: Digest::of(self.signed.body()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SigningKey;

    fn key() -> SigningKey {
        SigningKey::from_seed(&SigningKey::new_seed().unwrap()).unwrap()
    }

    struct Chain {
        cluster: ClusterId,
        trust: SigningKey,
        job: SigningKey,
    }

    impl Chain {
        fn new() -> Self {
            Self {
                cluster: ClusterId::random(),
                trust: key(),
                job: key(),
            }
        }

        fn document(&self, version: u64, previous: Digest) -> TrustDocument {
            TrustDocument {
                cluster: self.cluster,
                version,
                previous,
                issued_at: Timestamp::from_millis(1_800_000_000_000),
                expires: Timestamp::from_millis(1_900_000_000_000),
                trust_key: self.trust.public(),
                job_keys: vec![self.job.public()],
                roots: vec![Digest([7; 32])],
            }
        }

        fn sign(&self, document: &TrustDocument) -> Signed<TrustDocument> {
            Signed::new(document, &self.trust).unwrap()
        }

        fn first(&self) -> Trusted {
            let first = self.sign(&self.document(1, Digest([0; 32])));
            Trusted::given(first, self.cluster, &self.trust.public()).unwrap()
        }
    }

    #[test]
    fn hundreds_of_documents_are_walked_one_by_one_over_changes_of_the_trust_key() {
        let mut chain = Chain::new();
        let mut at = chain.first();
        for version in 2..300 {
            let mut document = chain.document(version, at.mark().document);
            let next = key();
            document.trust_key = next.public();
            at = at.followed_by(&chain.sign(&document)).unwrap().unwrap();
            chain.trust = next;
        }
        assert_eq!(at.mark().version, 299);
        assert_eq!(
            at.followed_by(&at.signed().clone()).unwrap().map(|_| ()),
            None
        );
    }

    #[test]
    fn chain_goes_neither_back_nor_ahead_nor_apart() {
        let chain = Chain::new();
        let first = chain.first();
        let second = chain.sign(&chain.document(2, first.mark().document));
        let at = first.followed_by(&second).unwrap().unwrap();
        let refusal = |version, previous| {
            let offered = chain.sign(&chain.document(version, previous));
            at.followed_by(&offered).unwrap_err()
        };
        let here = at.mark().document;
        let back = |offered| TrustRefusal::Back { kept: 2, offered };
        let gap = |offered| TrustRefusal::Gap { kept: 2, offered };
        assert_eq!(at.followed_by(first.signed()).unwrap_err(), back(1));
        assert_eq!(refusal(2, here), back(2));
        assert_eq!(refusal(0, here), back(0));
        assert_eq!(refusal(4, here), gap(4));
        assert_eq!(refusal(u64::MAX, here), gap(u64::MAX));
        let fork = TrustRefusal::Fork {
            kept: 2,
            offered: 3,
        };
        assert_eq!(refusal(3, first.mark().document), fork);
    }

    #[test]
    fn neither_job_key_nor_a_retired_trust_key_makes_a_document() {
        let mut chain = Chain::new();
        let first = chain.first();
        let unsigned = TrustRefusal::Unsigned(SignError::NotSigned);
        let document = chain.document(2, first.mark().document);
        let by_job_key = Signed::new(&document, &chain.job).unwrap();
        assert_eq!(first.followed_by(&by_job_key).unwrap_err(), unsigned);

        let (old, new) = (chain.trust, key());
        chain.trust = new;
        let named = Signed::new(&chain.document(2, first.mark().document), &old).unwrap();
        let at = first.followed_by(&named).unwrap().unwrap();
        let document = chain.document(3, at.mark().document);
        let by_old = Signed::new(&document, &old).unwrap();
        assert_eq!(at.followed_by(&by_old).unwrap_err(), unsigned);
        assert!(at.followed_by(&chain.sign(&document)).is_ok());
    }

    #[test]
    fn document_that_names_nobody_or_another_cluster_is_refused() {
        let chain = Chain::new();
        let first = chain.first();
        let refused = |change: &dyn Fn(&mut TrustDocument)| {
            let mut document = chain.document(2, first.mark().document);
            change(&mut document);
            first.followed_by(&chain.sign(&document)).unwrap_err()
        };
        let empty = TrustRefusal::Empty;
        assert_eq!(refused(&|d| d.job_keys.clear()), empty);
        assert_eq!(refused(&|d| d.roots.clear()), empty);
        assert_eq!(
            refused(&|d| d.roots = vec![Digest([1; 32]); ROOTS_MAX + 1]),
            empty
        );
        assert_eq!(refused(&|d| d.expires = d.issued_at), empty);
        let other = TrustRefusal::OtherCluster;
        assert_eq!(refused(&|d| d.cluster = ClusterId::random()), other);
    }
}
