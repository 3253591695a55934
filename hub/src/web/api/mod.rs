//! `/api/v1`: one file per noun, its requests and answers beside the handlers.

pub mod artifacts;
pub mod attempts;
pub mod bridges;
pub mod credentials;
pub mod events;
pub mod host_keys;
pub mod keys;
pub mod live;
pub mod metrics;
pub mod rotations;
pub mod runs;
pub mod servers;
pub mod shown;
pub mod sources;
pub mod targets;
pub mod tasks;
pub mod templates;
