//! Who has signed something: people count, whatever they sign with.

use std::collections::BTreeSet;

use steward_certs::signature::{Signature, Signers};
use steward_shared::time::Timestamp;

/// People whose signatures count, by their keys and their names.
#[derive(Debug, Default)]
pub(super) struct People {
    keys: BTreeSet<String>,
    names: BTreeSet<String>,
}

/// What was signed, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matter<'a> {
    /// What signatures of it are made for.
    pub(super) purpose: &'static str,
    /// What was signed, byte for byte.
    pub(super) content: &'a [u8],
    /// What such a signer is called.
    pub(super) role: &'static str,
}

impl People {
    /// How many keys have signed.
    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Takes a signature; whose it is, or why it does not count.
    pub(super) fn take(
        &mut self,
        text: &str,
        matter: &Matter<'_>,
        signers: &Signers,
        now: Timestamp,
    ) -> Result<(), String> {
        let (key, names) = believed(text, matter, signers, now)?;
        self.keys.insert(key);
        self.names.extend(names);
        Ok(())
    }

    /// As [`People::take`], where each person counts once, and nobody of `others` does.
    pub(super) fn take_one_of_each(
        &mut self,
        text: &str,
        matter: &Matter<'_>,
        signers: &Signers,
        (others, now): (&Self, Timestamp),
    ) -> Result<(), String> {
        let (key, names) = believed(text, matter, signers, now)?;
        if others.has(&key, &names) {
            return Err(format!(
                "{key} is of somebody who has signed the template too, and nobody approves what is their own"
            ));
        }
        if self.has(&key, &names) {
            return Err(format!("{key} is of somebody who has signed already"));
        }
        self.keys.insert(key);
        self.names.extend(names);
        Ok(())
    }

    fn has(&self, key: &str, names: &[String]) -> bool {
        self.keys.contains(key) || names.iter().any(|name| self.names.contains(name))
    }
}

/// The fingerprint of a signature's key and the names of who has it, if the signature is good and of a signer.
fn believed(
    text: &str,
    matter: &Matter<'_>,
    signers: &Signers,
    now: Timestamp,
) -> Result<(String, Vec<String>), String> {
    let signature = Signature::parse(text).map_err(|why| why.to_string())?;
    let key = signature.fingerprint();
    let Some(signer) = signers.who(&signature, matter.purpose, now) else {
        return Err(format!("{key} is not one of the {}", matter.role));
    };
    let good = signature.verify(matter.purpose, matter.content);
    good.map_err(|why| why.to_string())?;
    // A line may have several names, with commas between them, and a key several lines.
    let of_key = signers.iter().filter(|one| one.is_of_key(signer));
    let names = of_key.flat_map(|one| one.name.split(','));
    Ok((key, names.map(str::to_lowercase).collect()))
}
