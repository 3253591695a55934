//! Who is who: fingerprints, identities, the cluster's certificate authority, enrolment, TLS.
//!
//! Used by the hub, the bridge and the client; nothing here opens a file or a socket, and the time
//! is a parameter.
//! Modules are declared from the lowest to the highest; each imports only those above it.

pub mod fingerprint;

pub mod identity;
pub mod key;
pub mod signature;
pub mod ssh;

pub mod authority;

pub mod enrol;
pub mod tls;
