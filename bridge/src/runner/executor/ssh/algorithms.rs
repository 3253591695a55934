//! Which algorithms are used with a target: those that are sound, and what it is too old to do without.

use std::borrow::Cow;

use russh::keys::{Algorithm, PublicKey};
use russh::{Preferred, cipher, kex, mac};

use super::known::Known;

/// SHA-1 in signatures, by the name that SSH has for it.
pub(super) const SHA1_SIGNATURES: &str = "ssh-rsa";

/// What is offered to a host that is known by this, with these older algorithms besides.
pub(super) fn preferred(known: &Known, older: &[String]) -> Preferred {
    let named = |name: &str| older.iter().any(|one| one == name);
    let sha1 = named(SHA1_SIGNATURES);
    let usual = Preferred::DEFAULT;
    let sound =
        |algorithm: &&Algorithm| sha1 || !matches!(algorithm, Algorithm::Rsa { hash: None });
    let key: Vec<Algorithm> = usual
        .key
        .iter()
        .filter(sound)
        .filter(|algorithm| known.keys.iter().any(|key| fits(algorithm, key)))
        .cloned()
        .collect();
    let certificates: Vec<Algorithm> = if known.authorities.is_empty() {
        Vec::new()
    } else {
        usual.key.iter().filter(sound).cloned().collect()
    };
    // Without ChaCha20-Poly1305, which is sound only with strict key exchange (Terrapin, CVE-2023-48795), and the
    // library does not insist on that.
    let mut ciphers = vec![
        cipher::AES_256_GCM,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    let with = ciphers.len();
    ciphers.extend(
        [
            cipher::AES_256_CBC,
            cipher::AES_192_CBC,
            cipher::AES_128_CBC,
        ]
        .into_iter()
        .filter(|name| named(name.as_ref())),
    );
    let mut macs = usual.mac.to_vec();
    if ciphers.len() > with {
        // CBC is as unsound with a MAC over what is encrypted, for the same reason.
        macs.retain(|name| !name.as_ref().contains("-etm@"));
    }
    macs.extend(Some(mac::HMAC_SHA1).filter(|name| named(name.as_ref())));
    let mut exchanges = usual.kex.to_vec();
    // What extensions are announced by comes last.
    let end = exchanges.len()
        - exchanges
            .iter()
            .rev()
            .take_while(|name| is_extension(name))
            .count();
    for name in [kex::DH_G1_SHA1, kex::DH_GEX_SHA1, kex::DH_G14_SHA1] {
        if named(name.as_ref()) {
            exchanges.insert(end, name);
        }
    }
    Preferred {
        key: Cow::Owned(key),
        host_key_certificates: Cow::Owned(certificates),
        kex: Cow::Owned(exchanges),
        cipher: Cow::Owned(ciphers),
        mac: Cow::Owned(macs),
        ..usual
    }
}

/// Whether a key is one that this algorithm signs with.
fn fits(algorithm: &Algorithm, key: &PublicKey) -> bool {
    match (algorithm, key.algorithm()) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (wanted, own) => *wanted == own,
    }
}

fn is_extension(name: &kex::Name) -> bool {
    let name: &str = name.as_ref();
    name.starts_with("ext-info-") || name.starts_with("kex-strict-")
}

#[cfg(test)]
mod tests {
    use steward_shared::template::OLDER_ALGORITHMS;

    use super::*;

    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDsJAXXe6mMb4Ivp+ngjRLHTRwfkuk/Rsl/lSnO0nG4nqfocO7Ca2\
        TtJCBKKKi4p77zvKHVdn1uh7WMBs7HJ91I489yoKOQyle9IoOgDeuQSZLaZg7pM1MsErddxPLBWfvvWkQYQQ2mutkS\
        KrBzFRCg8RMG8GTwF4R/Sj7PN598TrfQyLYAkDNVlbu7R1cQWE9PEdm14mIsnHQ3POC43dH3YIFXc+KLDpcgXDI8YV\
        JAjo8mRsJNVUoGUhGVvji8cqKimIjQGSR3Ib9dJlShnEFi4iv67SvzUgJAOqiH4TULU2FFLu25aDm6SxfZzueOwWU1\
        fV3f3fUoD/X/4m7xM9wR";

    fn known() -> Known {
        Known {
            address: "127.0.0.1".to_owned(),
            keys: vec![PublicKey::from_openssh(RSA).unwrap()],
            authorities: Vec::new(),
        }
    }

    fn names(preferred: &Preferred) -> Vec<String> {
        let mut all: Vec<String> = preferred
            .kex
            .iter()
            .map(|one| one.as_ref().to_owned())
            .collect();
        all.extend(preferred.cipher.iter().map(|one| one.as_ref().to_owned()));
        all.extend(preferred.mac.iter().map(|one| one.as_ref().to_owned()));
        all.extend(preferred.key.iter().map(ToString::to_string));
        all
    }

    #[test]
    fn older_algorithm_is_offered_where_it_is_named_and_nowhere_else() {
        let known = known();
        let usual = names(&preferred(&known, &[]));
        for name in OLDER_ALGORITHMS {
            assert!(!usual.contains(&name.to_owned()), "{name}");
            let with = names(&preferred(&known, &[name.to_owned()]));
            assert!(with.contains(&name.to_owned()), "{name} {with:?}");
        }
        assert!(
            usual
                .iter()
                .all(|name| !name.contains("sha1") && !name.contains("cbc"))
        );
    }

    #[test]
    fn cbc_is_never_used_with_a_mac_over_what_is_encrypted() {
        let with = preferred(&known(), &["aes128-cbc".to_owned()]);
        assert!(with.mac.iter().all(|name| !name.as_ref().contains("etm")));
        assert!(!with.mac.is_empty());
    }
}
