//! The whole of Steward from outside: stories that must come true, and input that must do no harm.

#[cfg(test)]
mod api;
#[cfg(test)]
mod bridges;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod cuts;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod output;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod results;
#[cfg(test)]
mod rogue;
mod rotation;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod shown;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod sql;
mod ssh;
#[cfg(test)]
mod targets;
#[cfg(test)]
mod telnet;
#[cfg(test)]
mod templates;
#[cfg(test)]
mod vectors;
