//! Signatures that people make with their SSH keys (SSHSIG, OpenSSH's `PROTOCOL.sshsig`), and whose are believed
//! (`allowed_signers`, `ssh-keygen(1)`).

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Fingerprint, HashAlg, PublicKey, SshSig};
use steward_shared::limits::SIGNATURE_CHARS_MAX;
use steward_shared::time::Timestamp;

/// What authors sign templates for (`ssh-keygen -Y sign -n`).
pub const TEMPLATE: &str = "steward-template";

/// What people sign approvals of runs for.
pub const APPROVAL: &str = "steward-approval";

/// A signature over something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(SshSig);

/// Why a signature proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a signature at all.
    #[error("not a signature as `ssh-keygen -Y sign` makes one")]
    Malformed,
    /// It was made for something else.
    #[error("the signature was made for \"{0}\", not for \"{1}\"")]
    Namespace(String, &'static str),
    /// It is by an algorithm that is too weak.
    #[error("the signature is by {0}, which is not believed")]
    Weak(String),
    /// Nobody has touched the security key that made it.
    #[error("the security key made the signature without a touch")]
    Untouched,
    /// It is not over these bytes.
    #[error("the signature is not over this content")]
    Wrong,
}

impl Signature {
    /// Reads a signature in its armour.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        if text.len() > SIGNATURE_CHARS_MAX {
            return Err(SignatureError::Malformed);
        }
        let text = text.trim_end();
        SshSig::from_pem(text)
            .map(Self)
            .map_err(|_| SignatureError::Malformed)
    }

    /// SHA-256 of the key that made it, as OpenSSH shows it.
    pub fn fingerprint(&self) -> String {
        Fingerprint::new(HashAlg::Sha256, self.0.public_key()).to_string()
    }

    /// Whether the key in it has signed these bytes for this purpose. Whose key that is, is another question:
    /// [`Signers::who`].
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, purpose: &'static str, message: &[u8]) -> Result<(), SignatureError> {
        if self.0.namespace() != purpose {
            let made_for = self.0.namespace().chars().take(64).collect();
            return Err(SignatureError::Namespace(made_for, purpose));
        }
        let (key, algorithm) = (self.0.public_key(), self.0.algorithm());
        // What the signature calls itself does not decide: a security key's may pass for another's.
        if !fits(key, &algorithm) {
            return Err(SignatureError::Weak(algorithm.to_string()));
        }
        if is_security_key(key) {
            // Its last five bytes are flags and a counter (PROTOCOL.u2f).
            let bytes = self.0.signature_bytes();
            let flags = bytes.len().checked_sub(5).and_then(|at| bytes.get(at));
            if flags.is_none_or(|flags| flags & USER_PRESENT == 0) {
                return Err(SignatureError::Untouched);
            }
        }
        PublicKey::from(self.0.public_key().clone())
            .verify(purpose, message, &self.0)
            .map_err(|_| SignatureError::Wrong)
    }

    fn key(&self) -> &KeyData {
        self.0.public_key()
    }
}

fn is_security_key(key: &KeyData) -> bool {
    matches!(key, KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_))
}

/// Whether keys like this make signatures by this algorithm. An RSA signature without a hash of its own has SHA-1.
fn fits(key: &KeyData, algorithm: &Algorithm) -> bool {
    if matches!(key, KeyData::Rsa(_)) {
        return matches!(algorithm, Algorithm::Rsa { hash: Some(_) });
    }
    is_elliptic(key) && key.algorithm() == *algorithm
}

/// Whether the signatures of such a key can be believed at all.
fn is_usable(key: &KeyData) -> bool {
    if let KeyData::Rsa(rsa) = key {
        let bytes = rsa.n().as_positive_bytes().map_or(0, <[u8]>::len);
        return bytes * 8 >= RSA_BITS_MIN;
    }
    is_elliptic(key)
}

fn is_elliptic(key: &KeyData) -> bool {
    is_security_key(key) || matches!(key, KeyData::Ecdsa(_) | KeyData::Ed25519(_))
}

/// Whose signatures are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers(Vec<Signer>);

/// Somebody whose signature is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Who it is, as the file says.
    pub name: String,
    key: KeyData,
    namespaces: Option<Vec<String>>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

/// A line that is not understood. Nobody's signature is believed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct SignersError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl Signers {
    /// Reads a file in OpenSSH's format: principals, options, key.
    ///
    /// `cert-authority` is refused, as signatures of certified keys are not looked at; so is every option that is not
    /// known. Times are in UTC, whether they end with `Z` or not.
    ///
    /// # Errors
    /// [`SignersError`] for the first bad line.
    pub fn parse(text: &str) -> Result<Self, SignersError> {
        let mut signers = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let signer = signer(line_text).map_err(|why| SignersError { line, why })?;
            if signers.len() == SIGNERS_MAX {
                let why = format!("more than {SIGNERS_MAX} signers");
                return Err(SignersError { line, why });
            }
            signers.push(signer);
        }
        Ok(Self(signers))
    }

    /// The signers, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter()
    }

    /// Who has made this signature, if that is somebody who is believed for this purpose at this time.
    pub fn who(&self, signature: &Signature, purpose: &str, now: Timestamp) -> Option<&Signer> {
        self.0.iter().find(|signer| {
            signer.key == *signature.key()
                && signer
                    .namespaces
                    .as_ref()
                    .is_none_or(|all| all.iter().any(|one| one == purpose))
                && signer.after.is_none_or(|after| after <= now)
                && signer.before.is_none_or(|before| now < before)
        })
    }
}

impl Signer {
    /// Whether it has the same key as this one.
    pub fn is_of_key(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// SHA-256 of the key, as OpenSSH shows it.
    pub fn fingerprint(&self) -> String {
        Fingerprint::new(HashAlg::Sha256, &self.key).to_string()
    }
}

fn signer(line: &str) -> Result<Signer, String> {
    const RULE: &str = "expected: NAME [OPTIONS] KEY-TYPE KEY";
    let (name, rest) = line.split_once([' ', '\t']).ok_or(RULE)?;
    let rest = rest.trim_start();
    if let Ok(key) = PublicKey::from_openssh(rest) {
        return made(name, &key, Options::default());
    }
    let (given, key) = split_options(rest).ok_or(RULE)?;
    let options = Options::parse(given)?;
    let key = PublicKey::from_openssh(key.trim_start())
        .map_err(|_| "the key cannot be read: expected KEY-TYPE BASE64".to_owned())?;
    made(name, &key, options)
}

fn made(name: &str, key: &PublicKey, options: Options) -> Result<Signer, String> {
    if !is_usable(key.key_data()) {
        return Err(format!(
            "signatures of such a key are not believed: ed25519, ecdsa, their security keys, and RSA from {RSA_BITS_MIN} bits are"
        ));
    }
    Ok(Signer {
        name: name.trim_matches('"').to_owned(),
        key: key.key_data().clone(),
        namespaces: options.namespaces,
        after: options.after,
        before: options.before,
    })
}

/// The options end at the first blank outside of quotes.
fn split_options(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        !quoted && c.is_ascii_whitespace()
    })?;
    text.split_at_checked(end)
}

#[derive(Default)]
struct Options {
    namespaces: Option<Vec<String>>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Options {
    fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut quoted = false;
        let each = text.split(|c: char| {
            quoted ^= c == '"';
            !quoted && c == ','
        });
        for option in each {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = value.trim_matches('"');
            let twice = || format!("the option {name:?} is given twice");
            match name.to_ascii_lowercase().as_str() {
                "namespaces" if options.namespaces.is_some() => return Err(twice()),
                "valid-after" if options.after.is_some() => return Err(twice()),
                "valid-before" if options.before.is_some() => return Err(twice()),
                "namespaces" => {
                    options.namespaces = Some(value.split(',').map(str::to_owned).collect());
                }
                "valid-after" => options.after = Some(time(value)?),
                "valid-before" => options.before = Some(time(value)?),
                other => {
                    let shown: String = other.chars().take(64).collect();
                    return Err(format!(
                        "the option {shown:?} is not understood: namespaces, valid-after and valid-before are"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// `YYYYMMDD[HHMM[SS]][Z]`.
fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("{text:?} is not a time as YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS");
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return Err(wrong());
    }
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or("00");
    let whole = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    );
    whole.parse().map_err(|_| wrong())
}

const USER_PRESENT: u8 = 1;

/// NIST SP 800-131A: RSA with fewer bits is not for signatures any more.
const RSA_BITS_MIN: usize = 2048;

const SIGNERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use ssh_key::PrivateKey;
    use ssh_key::private::{Ed25519Keypair, KeypairData};
    use ssh_key::public::SkEd25519;
    use steward_shared::job::Digest;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_312_577_042);

    fn key(seed: u8) -> PrivateKey {
        let pair = Ed25519Keypair::from_seed(&[seed; 32]);
        PrivateKey::new(KeypairData::Ed25519(pair), "").unwrap()
    }

    fn signed(seed: u8, namespace: &str, message: &[u8]) -> Signature {
        Signature(key(seed).sign(namespace, HashAlg::Sha512, message).unwrap())
    }

    fn line(seed: u8, options: &str) -> String {
        let public = key(seed).public_key().to_openssh().unwrap();
        format!("ann@example.org {options} {public} of Ann's")
    }

    #[test]
    fn signature_is_good_for_its_content_and_its_purpose_only() {
        let signature = signed(1, TEMPLATE, b"content");
        assert_eq!(signature.verify(TEMPLATE, b"content"), Ok(()));
        assert_eq!(
            signature.verify(TEMPLATE, b"other"),
            Err(SignatureError::Wrong)
        );
        let other = signed(1, "file", b"content");
        let refused = other.verify(TEMPLATE, b"content");
        assert_eq!(
            refused,
            Err(SignatureError::Namespace("file".to_owned(), TEMPLATE))
        );
    }

    /// What a security key makes (PROTOCOL.u2f), labelled with an algorithm.
    fn by_security_key(flags: u8, label: Algorithm) -> Option<Signature> {
        let KeypairData::Ed25519(pair) = key(3).key_data().clone() else {
            unreachable!()
        };
        let public = KeyData::SkEd25519(SkEd25519::new(pair.public, "ssh:"));
        let data = SshSig::signed_data(TEMPLATE, HashAlg::Sha512, b"content").unwrap();
        let told = [&[flags][..], &7_u32.to_be_bytes()].concat();
        let digests = [&b"ssh:"[..], &data].map(|bytes| Digest::of(bytes).0);
        let shown = [&digests[0][..], &told, &digests[1]].concat();
        let made = Ed25519KeyPair::from_seed_unchecked(&[3; 32])
            .unwrap()
            .sign(&shown);
        let bytes = [made.as_ref(), &told].concat();
        let signature = ssh_key::Signature::new(label, bytes).ok()?;
        Some(Signature(
            SshSig::new(public, TEMPLATE, HashAlg::Sha512, signature).unwrap(),
        ))
    }

    #[test]
    fn security_key_must_have_been_touched_whatever_its_signature_calls_itself() {
        let good = by_security_key(1, Algorithm::SkEd25519).unwrap();
        assert_eq!(good.verify(TEMPLATE, b"content"), Ok(()));
        assert_eq!(good.verify(TEMPLATE, b"other"), Err(SignatureError::Wrong));
        let untouched = by_security_key(0, Algorithm::SkEd25519).unwrap();
        let refused = untouched.verify(TEMPLATE, b"content");
        assert_eq!(refused, Err(SignatureError::Untouched));
        let hash = Some(HashAlg::Sha512);
        let relabelled = by_security_key(0, Algorithm::Rsa { hash }).unwrap();
        let refused = relabelled.verify(TEMPLATE, b"content");
        assert!(
            matches!(refused, Err(SignatureError::Weak(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn signature_is_read_from_its_armour_and_from_nothing_else() {
        use ssh_key::LineEnding;
        let signature = signed(1, TEMPLATE, b"content");
        let text = signature.0.to_pem(LineEnding::LF).unwrap();
        assert_eq!(Signature::parse(&text).unwrap(), signature);
        assert_eq!(Signature::parse(&format!("{text}\n")).unwrap(), signature);
        let half = &text[..text.len() / 2];
        for bad in ["", "signed", half, &"x".repeat(5000)] {
            assert_eq!(
                Signature::parse(bad),
                Err(SignatureError::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn whose_signature_it_is_depends_on_key_purpose_and_time() {
        let signature = signed(1, TEMPLATE, b"content");
        let who = |lines: &str| {
            let signers = Signers::parse(lines).unwrap_or_else(|error| panic!("{lines}: {error}"));
            signers.who(&signature, TEMPLATE, NOW).is_some()
        };
        assert!(who(&format!("# authors\n\n{}", line(1, ""))));
        assert!(!who(&line(2, "")));
        assert!(who(&line(1, "namespaces=\"file,steward-template\"")));
        assert!(!who(&line(1, "namespaces=\"file\"")));
        assert!(
            !who(&line(1, "namespaces=\"*\"")),
            "patterns are not known: nobody"
        );
        assert!(who(&line(
            1,
            "valid-after=\"20261101\",valid-before=\"202612010000Z\""
        )));
        assert!(!who(&line(1, "valid-after=\"20261123\"")));
        assert!(!who(&line(1, "valid-before=\"20261122000000\"")));
        assert!(!who(""));
    }

    #[test]
    fn line_that_is_not_understood_is_told_and_nobody_is_believed() {
        let good = line(1, "");
        for bad in [
            line(1, "cert-authority"),
            line(1, "valid-before=\"20200101\",valid-before=\"20990101\""),
            line(1, "verify-required"),
            line(1, "valid-before=\"soon\""),
            line(1, "valid-before=\"20269999\""),
            "ann@example.org".to_owned(),
            "ann@example.org ssh-ed25519".to_owned(),
            "ann@example.org ssh-ed25519 AAAA".to_owned(),
        ] {
            let error = Signers::parse(&format!("{good}\n{bad}\n")).expect_err(&bad);
            assert_eq!(error.line, 2, "{bad}: {error}");
        }
    }
}
