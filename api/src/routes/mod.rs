//! The router: which handler serves which path, and what is around them.

mod accounts;
mod acts;
mod agents;
pub(crate) mod app;
mod ask;
mod builds;
mod caller;
mod commands;
mod domains;
mod events;
mod instances;
mod layers;
mod logs;
mod nodes;
mod ops;
mod status;
mod uploads;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use app::Limits;
pub use logs::LOG_ANSWER_BYTES_MAX;

use app::App;

/// Routes whose answer comes at once.
fn short() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(commands::submit))
        .routes(routes!(commands::command))
        .routes(routes!(accounts::accounts))
        .routes(routes!(accounts::account))
        .routes(routes!(accounts::account_keys))
        .routes(routes!(accounts::account_credits))
        .routes(routes!(acts::charter))
        .routes(routes!(acts::acts))
        .routes(routes!(acts::act))
        .routes(routes!(agents::agents))
        .routes(routes!(agents::agent))
        .routes(routes!(builds::builds))
        .routes(routes!(builds::build))
        .routes(routes!(instances::instances))
        .routes(routes!(instances::instance))
        .routes(routes!(nodes::nodes))
        .routes(routes!(nodes::node))
        .routes(routes!(domains::domains))
        .routes(routes!(domains::domain))
        .routes(routes!(ops::ops))
        .routes(routes!(ops::op))
        .routes(routes!(ops::ledger))
        .routes(routes!(status::status))
        .routes(routes!(status::network))
}

/// Routes that take their time, each with a bound of its own on how many run, and those that must answer
/// however busy the node is.
fn others() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(ops::verify))
        .routes(routes!(ops::export))
        .routes(routes!(events::events))
        .routes(routes!(uploads::upload))
        .routes(routes!(logs::instance_logs))
        .routes(routes!(logs::build_log))
        .routes(routes!(status::healthz))
        .routes(routes!(status::readyz))
        .routes(routes!(status::metrics))
        .routes(routes!(status::openapi))
}

/// The router with all that is around it.
pub(crate) fn router(app: App) -> Router {
    let short = short().layer(from_fn_with_state(app.clone(), layers::bound));
    let (router, _) = short.merge(others()).with_state::<()>(app).split_for_parts();
    router
        .method_not_allowed_fallback(layers::no_such_method)
        .route_layer(from_fn(layers::count))
        .fallback(layers::no_such_path)
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn(layers::finish))
}

/// What the routes say of themselves.
pub(crate) fn openapi() -> OpenApi {
    short().merge(others()).into_openapi()
}
