//! Events: the node's journal as server-sent events.
//!
//! Nothing is kept for a consumer: each reads pages of the journal as fast as its connection takes them. One
//! that takes nothing for too long is dropped by the connection's guard, and resumes where it was.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::app::{App, place};
use super::ask::{Query, parse};
use super::ops::read_problem;
use crate::door::{JournalEntry, ReadError, Told};
use crate::problem::{ErrorCode, Problem};
use crate::views::events::{CheckpointEvent, EventCursor, EventView, JournalPosition};
use crate::{EVENT_CHECKPOINT, EVENT_POSITION, path};

/// Entries of the journal that are read at once.
const PAGE: usize = 64;

/// Kinds that a filter names, at most.
const KINDS_MAX: usize = 32;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParams {
    /// Begin with this offset of the node's journal; with what happens from now on without it. The header
    /// `Last-Event-ID` goes before it.
    from: Option<u64>,
    /// Only these kinds, such as `InstanceChanged`, between commas.
    kind: Option<String>,
}

/// What happens, as server-sent events.
///
/// Each event's type is its kind, its data an `EventView`. An event of type `Checkpoint`, its data a
/// `CheckpointEvent`, tells that a certificate came: what it covers stands for ever as it was told last; what it
/// turned is told before it. Events of type `position` tell where the stream is when
/// there is nothing else to tell, at the beginning and every 15 seconds. Resume with the last id as
/// `Last-Event-ID`: every event comes at least once.
#[utoipa::path(
    get, path = path::EVENTS, tag = "events", params(
        EventParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The last id that came: `<node>:<offset>`"),
    ),
    responses(
        (status = 200, body = EventView, content_type = "text/event-stream"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(
    State(app): State<App>,
    Query(params): Query<EventParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kinds: BTreeSet<String> = params
        .kind
        .iter()
        .flat_map(|kinds| kinds.split(','))
        .map(|kind| kind.trim().to_owned())
        .filter(|kind| !kind.is_empty())
        .collect();
    if kinds.len() > KINDS_MAX {
        return Err(Problem::new(
            ErrorCode::Malformed,
            format!("`kind` names at most {KINDS_MAX} kinds"),
        ));
    }
    let mut end = app.door.journal_end();
    let last = *end.borrow_and_update();
    let next = match headers.get("last-event-id") {
        Some(cursor) => resume(&app, cursor.to_str().unwrap_or_default())?,
        None => params.from.unwrap_or(last),
    };
    if next > last {
        return Err(Problem::new(
            ErrorCode::OtherJournal,
            format!("the journal of this node ends before offset {next}, at {last}"),
        )
        .hint("the node has begun a new journal: read the views, then begin without an offset"));
    }
    let place = place(&app.event_streams, "event streams")?;
    // The first page is read before the answer begins, so that a pruned offset has a status of its own.
    let first = app.door.journal(next, PAGE).await.map_err(read_problem)?;
    let stream = Stream {
        heartbeat: Instant::now() + app.limits.heartbeat,
        app,
        kinds,
        end,
        next,
        page: first.into(),
        greeted: false,
        _place: place,
    };
    Ok(Sse::new(stream::unfold(stream, Stream::step)).into_response())
}

fn resume(app: &App, cursor: &str) -> Result<u64, Problem> {
    let cursor: EventCursor = parse("Last-Event-ID", cursor)?;
    if cursor.node == app.node {
        return Ok(cursor.next);
    }
    Err(Problem::new(
        ErrorCode::OtherJournal,
        format!(
            "the stream to resume was of node {}, this is node {}",
            cursor.node, app.node
        ),
    )
    .hint("resume at that node, or read the views here and begin without `Last-Event-ID`"))
}

/// A consumer's stream.
struct Stream {
    app: App,
    kinds: BTreeSet<String>,
    end: watch::Receiver<u64>,
    /// The next offset to read.
    next: u64,
    page: VecDeque<JournalEntry>,
    greeted: bool,
    heartbeat: Instant,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    async fn step(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if !self.greeted {
            self.greeted = true;
            let event = self.position();
            return Some((Ok(event), self));
        }
        let shutdown = self.app.shutdown.clone();
        let event = tokio::select! {
            event = self.event() => event?,
            () = shutdown.cancelled() => return None,
        };
        self.heartbeat = Instant::now() + self.app.limits.heartbeat;
        Some((Ok(event), self))
    }

    /// The next event, or where the stream is when none comes for a while. Ends when the journal cannot be read.
    async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some(entry) = self.page.pop_front() {
                self.next = entry.offset + 1;
                if let Some(event) = self.wanted(&entry) {
                    return Some(event);
                }
            }
            if Instant::now() >= self.heartbeat {
                return Some(self.position());
            }
            self.end.mark_unchanged();
            match self.app.door.journal(self.next, PAGE).await {
                Ok(page) if !page.is_empty() => {
                    self.page = page.into();
                    // A filter may pass over many pages: let others have their turn.
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(_) => {}
                Err(ReadError::Busy) => {}
                Err(error) => {
                    tracing::warn!("an event stream ends: {error}");
                    return None;
                }
            }
            tokio::select! {
                changed = self.end.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.heartbeat) => return Some(self.position()),
            }
        }
    }

    fn wanted(&self, entry: &JournalEntry) -> Option<Event> {
        let (kind, data) = match &entry.told {
            Told::Entry(told) => {
                if told.entry >= told.op.body().entries.len() {
                    tracing::error!(
                        "the journal names entry {} of op {}, which has fewer",
                        told.entry,
                        told.op.id()
                    );
                    return None;
                }
                let view = EventView::new(&self.app.door.cloud(), entry.offset, told);
                let data = serde_json::to_string(&view).expect("a view is plain values");
                (view.entry.kind, data)
            }
            Told::Checkpoint(id, told) => {
                let view = CheckpointEvent::new(entry.offset, *id, told);
                let data = serde_json::to_string(&view).expect("a view is plain values");
                (EVENT_CHECKPOINT.to_owned(), data)
            }
        };
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return None;
        }
        // A kind that this build does not know has blanks in its name, and a line break nowhere.
        Some(Event::default().id(self.cursor()).event(&kind).data(data))
    }

    fn position(&self) -> Event {
        let data = serde_json::to_string(&JournalPosition { next: self.next }).expect("a number");
        Event::default()
            .id(self.cursor())
            .event(EVENT_POSITION)
            .data(data)
    }

    fn cursor(&self) -> String {
        EventCursor {
            node: self.app.node,
            next: self.next,
        }
        .to_string()
    }
}
