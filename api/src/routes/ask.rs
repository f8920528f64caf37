//! How a request says what it is about: parameters, one thing by its id or name, a page of many.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use data_encoding::HEXLOWER;
use ledger::id::{AccountId, AgentId, NodeId};
use projections::cloud::{Cloud, Position};

use crate::problem::{ErrorCode, Problem};
use crate::views::{One, PAGE_DEFAULT, PAGE_MAX, Page};

/// Digits of an id that name one thing, at least.
pub(crate) const PREFIX_DIGITS_MIN: usize = projections::queries::PREFIX_DIGITS_MIN;

/// Parameters behind the question mark. One that is not known is refused: it would be passed over in silence.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(crate) struct Query<T>(pub(crate) T);

/// The parameter in the path.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(id) = Path::from_request_parts(parts, state).await?;
        Ok(Self(id))
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(ErrorCode::Malformed, rejection.body_text()).hint("see /openapi.json for the parameters")
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(ErrorCode::Malformed, rejection.body_text())
    }
}

/// What a parameter's text says.
pub(crate) fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error| Problem::new(ErrorCode::Malformed, format!("`{name}`: {error}")))
}

/// The number of items of a page.
pub(crate) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(PAGE_DEFAULT),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::new(
            ErrorCode::Malformed,
            format!("`limit` is 1 to {PAGE_MAX}"),
        )),
    }
}

/// The first `limit` of `items`, in their order. `cursor` names an item so that the next page begins behind it.
pub(crate) fn page<T>(
    items: impl Iterator<Item = T>,
    limit: usize,
    position: Position,
    cursor: impl Fn(&T) -> String,
) -> Page<T> {
    let mut items: Vec<T> = items.take(limit + 1).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    Page {
        items,
        next,
        position: position.into(),
    }
}

/// One thing, read at `cloud`.
pub(crate) fn one<T>(cloud: &Cloud, item: T) -> axum::Json<One<T>> {
    axum::Json(One {
        item,
        position: cloud.position.into(),
    })
}

/// The thing that `text` means: the one of that name, else the only one whose id begins so. `from` gives what
/// stands in the order of ids from one on.
pub(crate) fn find<K, V, I>(
    noun: &str,
    text: &str,
    named: Option<V>,
    from: impl FnOnce([u8; 32]) -> I,
) -> Result<V, Problem>
where
    K: Display,
    I: Iterator<Item = (K, V)>,
{
    if let Some(named) = named {
        return Ok(named);
    }
    let shown: String = text.chars().take(80).collect();
    let Some(first) = first_id(text) else {
        return Err(Problem::new(
            ErrorCode::NotFound,
            format!("there is no {noun} `{shown}`"),
        ));
    };
    let mut found = from(first)
        .take_while(|(id, _)| id.to_string().starts_with(text))
        .map(|(_, thing)| thing);
    match (found.next(), found.next()) {
        (Some(thing), None) => Ok(thing),
        (None, _) => Err(Problem::new(
            ErrorCode::NotFound,
            format!("there is no {noun} `{shown}`"),
        )),
        (Some(_), Some(_)) => Err(Problem::new(
            ErrorCode::Ambiguous,
            format!("`{shown}` is the beginning of the id of more than one {noun}"),
        )
        .hint("give more digits")),
    }
}

/// The smallest id that begins with these digits, if there are enough of them to mean one.
fn first_id(text: &str) -> Option<[u8; 32]> {
    if !(PREFIX_DIGITS_MIN..=64).contains(&text.len()) {
        return None;
    }
    let digits = format!("{text:0<64}");
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// The account that a filter means.
pub(crate) fn account(cloud: &Cloud, text: &str) -> Result<AccountId, Problem> {
    find("account", text, cloud.account_named(text), |first| {
        cloud.accounts.range(AccountId(first)..)
    })
    .map(|account| account.id)
}

/// The agent that a filter means.
pub(crate) fn agent(cloud: &Cloud, text: &str) -> Result<AgentId, Problem> {
    find("agent", text, cloud.agent_named(text), |first| {
        cloud.agents.range(AgentId(first)..)
    })
    .map(|agent| agent.id)
}

/// The node that a filter means.
pub(crate) fn node(cloud: &Cloud, text: &str) -> Result<NodeId, Problem> {
    let mut named = cloud.nodes.values().filter(|node| {
        node.announced
            .as_ref()
            .is_some_and(|announced| announced.name == text)
    });
    let first = named.next();
    if first.is_some() && named.next().is_some() {
        return Err(Problem::new(
            ErrorCode::Ambiguous,
            format!("more than one node is called `{text}`"),
        )
        .hint("give the first digits of its key"));
    }
    find("node", text, first, |first| cloud.nodes.range(NodeId(first)..)).map(|node| node.id)
}

/// A filter that was given, resolved.
pub(crate) fn resolve<T>(
    cloud: &Cloud,
    text: Option<&String>,
    find: impl FnOnce(&Cloud, &str) -> Result<T, Problem>,
) -> Result<Option<T>, Problem> {
    text.map(|text| find(cloud, text)).transpose()
}
