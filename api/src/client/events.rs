//! Events as a stream that goes on after a broken connection, where it was.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use http::header;
use reqwest::Response;

use super::sse::{RawEvent, Reader};
use super::{Client, ClientError, not_understood, send};
use crate::path;
use crate::problem::ErrorCode;
use crate::views::events::EventView;

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Kinds such as `InstanceChanged`; all when empty.
    pub kinds: Vec<String>,
}

/// Where to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventStart {
    /// With what happens from now on.
    #[default]
    Now,
    /// With this offset of the node's journal.
    Offset(u64),
    /// Where another stream stood: the id that came with its last event.
    Cursor(String),
}

/// The server says something every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(15);

struct State {
    client: Client,
    filter: EventFilter,
    start: EventStart,
    retry: Duration,
    connection: Option<(Response, Reader)>,
    ready: std::collections::VecDeque<RawEvent>,
    ended: bool,
}

/// What comes next, as far as one step knows.
enum Step {
    Event(Box<EventView>),
    /// Nothing yet; go on.
    Again,
    /// This will not pass.
    Final(ClientError),
    /// The connection is gone; try again after a while.
    Broken,
}

pub(super) fn stream(
    client: Client,
    filter: EventFilter,
    start: EventStart,
) -> BoxStream<'static, Result<EventView, ClientError>> {
    let state = State {
        client,
        filter,
        start,
        retry: RETRY_FIRST,
        connection: None,
        ready: Default::default(),
        ended: false,
    };
    stream::unfold(state, |mut state| async move {
        loop {
            if state.ended {
                return None;
            }
            match state.step().await {
                Step::Event(event) => return Some((Ok(*event), state)),
                Step::Again => {}
                Step::Final(error) => {
                    state.ended = true;
                    return Some((Err(error), state));
                }
                Step::Broken => {
                    state.connection = None;
                    tokio::time::sleep(state.retry).await;
                    state.retry = (state.retry * 2).min(RETRY_LAST);
                }
            }
        }
    })
    .boxed()
}

impl State {
    async fn step(&mut self) -> Step {
        if let Some(raw) = self.ready.pop_front() {
            return self.understand(raw);
        }
        let Some((response, reader)) = &mut self.connection else {
            return match self.connect().await {
                Ok(response) => {
                    self.connection = Some((response, Reader::default()));
                    Step::Again
                }
                Err(error) if passes(&error) => Step::Broken,
                Err(error) => Step::Final(error),
            };
        };
        match tokio::time::timeout(SILENCE_MAX, response.chunk())
            .await
            .unwrap_or(Ok(None))
        {
            Ok(Some(bytes)) => match reader.feed(&bytes) {
                Ok(events) => {
                    self.ready.extend(events);
                    Step::Again
                }
                Err(_) => Step::Final(not_understood(response, "an event is too large")),
            },
            Ok(None) | Err(_) => Step::Broken,
        }
    }

    async fn connect(&self) -> Result<Response, ClientError> {
        let mut query = Vec::new();
        if !self.filter.kinds.is_empty() {
            query.push(("kind", self.filter.kinds.join(",")));
        }
        if let EventStart::Offset(offset) = self.start {
            query.push(("from", offset.to_string()));
        }
        let url = self.client.url(path::EVENTS, &query);
        let mut request = self
            .client
            .http
            .get(url.clone())
            .header(header::ACCEPT, "text/event-stream");
        if let EventStart::Cursor(id) = &self.start {
            request = request.header("last-event-id", id);
        }
        send(&url, request).await
    }

    fn understand(&mut self, raw: RawEvent) -> Step {
        if let Some(id) = raw.id {
            self.start = EventStart::Cursor(id);
        }
        self.retry = RETRY_FIRST;
        // The server tells where it is without an event, so that one who heard nothing resumes there too.
        let kind = raw.event.as_deref();
        if kind == Some(crate::EVENT_POSITION) || kind == Some(crate::EVENT_CHECKPOINT) {
            return Step::Again;
        }
        match serde_json::from_str(&raw.data) {
            Ok(event) => Step::Event(Box::new(event)),
            Err(error) => Step::Final(ClientError::Answer {
                url: self.client.url(path::EVENTS, &[]).to_string(),
                status: 200,
                what: error.to_string(),
            }),
        }
    }
}

/// Whether to try again: the node is starting, stopping, busy or out of reach.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. } | ClientError::Transport { .. } => true,
        ClientError::Problem(problem) => {
            matches!(
                problem.code,
                ErrorCode::Busy | ErrorCode::ShuttingDown | ErrorCode::Timeout
            )
        }
        _ => false,
    }
}
