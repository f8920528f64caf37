//! Accounts.

use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use ledger::id::AccountId;
use ledger::key::PublicKey;
use projections::keys::KEYS_MAX;
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::{App, now_ms};
use super::ask::{self, Id, Query, find, limit, one, page, parse};
use crate::path;
use crate::problem::Problem;
use crate::views::accounts::AccountView;
use crate::views::credits::CreditsView;
use crate::views::keys::KeyView;
use crate::views::{One, Page};

/// Which accounts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AccountParams {
    /// At most so many: 1 to 1000, 100 without it.
    limit: Option<usize>,
    /// Begin behind this id: the `next` of the page before.
    after: Option<String>,
    /// Only the account of this name.
    name: Option<String>,
    /// Only the account that this key signs for, or did: `ed25519:` and 64 hexadecimal digits.
    key: Option<String>,
}

/// Accounts, in the order of their ids.
#[utoipa::path(
    get, path = path::ACCOUNTS, tag = "accounts", params(AccountParams),
    responses(
        (status = 200, body = Page<AccountView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn accounts(
    State(app): State<App>,
    Query(params): Query<AccountParams>,
) -> Result<Json<Page<AccountView>>, Problem> {
    let cloud = app.door.cloud();
    let after: Option<AccountId> = params.after.as_deref().map(|id| parse("after", id)).transpose()?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let key: Option<PublicKey> = params.key.as_deref().map(|key| parse("key", key)).transpose()?;
    let of_key = key.map(|key| cloud.account_of(&key).map(|account| account.id));
    let items = cloud
        .accounts
        .range((from, Bound::Unbounded))
        .map(|(_, account)| account)
        .filter(|account| params.name.as_ref().is_none_or(|name| account.name == *name))
        .filter(|account| of_key.is_none_or(|id| id == Some(account.id)))
        .map(AccountView::from);
    Ok(Json(page(items, limit(params.limit)?, cloud.position, |view| {
        view.id.to_string()
    })))
}

/// An account, by its id, its name, or the first digits of its id.
#[utoipa::path(
    get, path = path::ACCOUNT, tag = "accounts", params(("id" = String, Path)),
    responses(
        (status = 200, body = One<AccountView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn account(State(app): State<App>, Id(id): Id) -> Result<Json<One<AccountView>>, Problem> {
    let cloud = app.door.cloud();
    let account = find("account", &id, cloud.account_named(&id), |first| {
        cloud.accounts.range(AccountId(first)..)
    })?;
    Ok(one(&cloud, account.into()))
}

/// The keys of an account, those that have ended too: all of them in one page.
#[utoipa::path(
    get, path = path::ACCOUNT_KEYS, tag = "accounts", params(("id" = String, Path)),
    responses(
        (status = 200, body = Page<KeyView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn account_keys(State(app): State<App>, Id(id): Id) -> Result<Json<Page<KeyView>>, Problem> {
    let cloud = app.door.cloud();
    let account = ask::account(&cloud, &id)?;
    let now_ms = now_ms();
    let keys = cloud.keys_of(account);
    let keys = keys.map(|(public, key)| KeyView::new(public, key, now_ms));
    Ok(Json(page(keys, KEYS_MAX, cloud.position, |view| {
        view.key.to_string()
    })))
}

/// What an account has, what it lets nodes spend, and what it lets them charge.
#[utoipa::path(
    get, path = path::ACCOUNT_CREDITS, tag = "accounts", params(("id" = String, Path)),
    responses(
        (status = 200, body = One<CreditsView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn account_credits(
    State(app): State<App>,
    Id(id): Id,
) -> Result<Json<One<CreditsView>>, Problem> {
    let cloud = app.door.cloud();
    let account = find("account", &id, cloud.account_named(&id), |first| {
        cloud.accounts.range(AccountId(first)..)
    })?;
    Ok(one(&cloud, CreditsView::new(&cloud, account)))
}
