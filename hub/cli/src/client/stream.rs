//! A live stream that outlives its connections: it resumes after the last event it has given.
//!
//! Called by `follow` for runs and attempts.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Response;
use tokio::time::Instant;

use super::sse::{Event, Parser};
use super::{Client, backoff};
use crate::error::Error;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// An event.
    Event(Event),
    /// The connection is lost and is being made again; said once per loss.
    Reconnecting,
}

/// One stream of server-sent events.
#[derive(Debug)]
pub(crate) struct Live {
    client: Client,
    path: Vec<String>,
    last: Option<String>,
    connection: Option<(Response, Parser)>,
    ready: VecDeque<Event>,
    lost: Option<Lost>,
}

/// A loss that lasts.
#[derive(Debug)]
struct Lost {
    since: Instant,
    attempt: u32,
}

impl Live {
    /// The stream at this path, from its beginning.
    pub(crate) fn new(client: Client, path: &[&str]) -> Self {
        let path = path.iter().map(|segment| (*segment).to_owned()).collect();
        Self {
            client,
            path,
            last: None,
            connection: None,
            ready: VecDeque::new(),
            lost: None,
        }
    }

    /// The next event; waits for it, and for the hub to come back.
    ///
    /// # Errors
    /// What the hub refuses, and [`Error::Unreachable`] when it stays away for [`AWAY_MAX`].
    pub(crate) async fn next(&mut self) -> Result<Next, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.last.clone_from(&event.id);
                self.lost = None;
                return Ok(Next::Event(event));
            }
            let error = match self.read().await {
                Ok(()) => continue,
                Err(error) => error,
            };
            let passing = match &error {
                Error::Unreachable { .. } => true,
                Error::Problem(problem) => problem.status >= 500,
                Error::Closed
                | Error::Contexts(_)
                | Error::File { .. }
                | Error::Garbled { .. }
                | Error::NoContext { .. }
                | Error::PinMismatch { .. }
                | Error::UnknownContext(_)
                | Error::Usage { .. } => false,
            };
            if !passing {
                return Err(error);
            }
            self.connection = None;
            match &mut self.lost {
                None => {
                    self.lost = Some(Lost {
                        since: Instant::now(),
                        attempt: 0,
                    });
                    return Ok(Next::Reconnecting);
                }
                Some(lost) => {
                    if lost.since.elapsed() > AWAY_MAX {
                        return Err(error);
                    }
                    tokio::time::sleep(backoff(lost.attempt)).await;
                    lost.attempt = lost.attempt.saturating_add(1);
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let (response, parser) = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
                let response = self.client.events(&path, self.last.as_deref()).await?;
                // A new connection may begin in the middle of nothing the old one has said.
                self.connection.insert((response, Parser::default()))
            }
        };
        let Some(piece) = self.client.piece(response).await? else {
            return Err(Error::Unreachable {
                hub: self.client.hub().to_owned(),
                why: "the stream ended too early".to_owned(),
            });
        };
        let events = parser.push(&piece).map_err(|_| Error::Garbled {
            expected: "a stream",
        })?;
        // An event without an id of its own must not lose the place in the stream.
        let last = self.last.clone();
        self.ready.extend(events.into_iter().map(|event| Event {
            id: event.id.or_else(|| last.clone()),
            ..event
        }));
        Ok(())
    }
}

/// How long a hub may stay away, for an upgrade perhaps, before following it is given up.
const AWAY_MAX: Duration = Duration::from_secs(10 * 60);
