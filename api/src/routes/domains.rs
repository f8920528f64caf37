//! Domain names that lead to agents: claimed ones, and those that come with an agent's name.

use std::collections::BTreeMap;
use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use projections::agents::vanity_name;
use projections::cloud::Cloud;
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::App;
use super::ask::{self, Id, Query, limit, one, page, resolve};
use crate::path;
use crate::problem::{ErrorCode, Problem};
use crate::views::domains::DomainView;
use crate::views::{One, Page};

/// Which domain names.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DomainParams {
    /// At most so many: 1 to 1000, 100 without it.
    limit: Option<usize>,
    /// Begin behind this name: the `next` of the page before.
    after: Option<String>,
    /// Only this account's: its id, name, or the first digits of its id.
    owner: Option<String>,
    /// Only those that lead to this agent: its id, name, or the first digits of its id.
    agent: Option<String>,
}

/// Domain names, in the order of the names.
#[utoipa::path(
    get, path = path::DOMAINS, tag = "domains", params(DomainParams),
    responses(
        (status = 200, body = Page<DomainView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn domains(
    State(app): State<App>,
    Query(params): Query<DomainParams>,
) -> Result<Json<Page<DomainView>>, Problem> {
    let cloud = app.door.cloud();
    let owner = resolve(&cloud, params.owner.as_ref(), ask::account)?;
    let agent = resolve(&cloud, params.agent.as_ref(), ask::agent)?;
    let names = names(&cloud);
    let from = params.after.map_or(Bound::Unbounded, Bound::Excluded);
    let items = names
        .range((from, Bound::Unbounded))
        .map(|(_, view)| view)
        .filter(|view| owner.is_none_or(|owner| view.owner == owner))
        .filter(|view| agent.is_none_or(|agent| view.agent == agent))
        .cloned();
    Ok(Json(page(items, limit(params.limit)?, cloud.position, |view| {
        view.name.clone()
    })))
}

/// A claimed name goes before the same one that comes with an agent's.
fn names(cloud: &Cloud) -> BTreeMap<String, DomainView> {
    let vanity = cloud
        .agents
        .values()
        .map(|agent| (vanity_name(&agent.name), DomainView::vanity(cloud, agent)));
    let claimed = cloud
        .domains
        .iter()
        .map(|(name, domain)| (name.clone(), DomainView::new(cloud, domain)));
    vanity.chain(claimed).collect()
}

/// A domain name.
#[utoipa::path(
    get, path = path::DOMAIN, tag = "domains", params(("id" = String, Path, description = "The name")),
    responses(
        (status = 200, body = One<DomainView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn domain(State(app): State<App>, Id(name): Id) -> Result<Json<One<DomainView>>, Problem> {
    let cloud = app.door.cloud();
    let claimed = cloud
        .domains
        .get(&name)
        .map(|domain| DomainView::new(&cloud, domain));
    let view = claimed
        .or_else(|| {
            cloud
                .vanity_agent(&name)
                .map(|agent| DomainView::vanity(&cloud, agent))
        })
        .ok_or_else(|| {
            let shown: String = name.chars().take(260).collect();
            Problem::new(ErrorCode::NotFound, format!("no agent has the name `{shown}`"))
        })?;
    Ok(one(&cloud, view))
}
