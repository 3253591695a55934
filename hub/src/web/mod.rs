//! HTTP: the REST API. Turns requests into calls of `flow`.

pub mod caller;
pub mod page;
pub mod problem;

pub mod api;

pub mod routes;

pub mod server;
