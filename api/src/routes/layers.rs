//! What happens around every request: a name, a bound on time and number, the one form of errors, figures.

use std::any::Any;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;

use super::app::{App, place};
use crate::problem::{ErrorCode, Problem};

/// Names a request, in the answer and in the node's log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const REQUEST_ID_BYTES_MAX: usize = 64;

/// The outermost layer: names the request, counts it, and gives a problem its body.
pub(crate) async fn finish(mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|id| fits(id))
        .cloned()
        .unwrap_or_else(random_id);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let began = Instant::now();
    let mut response = next.run(request).await;
    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(mut problem) = problem.or_else(|| unexplained(&response)) {
        problem.request_id = id.to_str().unwrap_or_default().to_owned();
        if problem.code == ErrorCode::Internal {
            tracing::error!(request_id = problem.request_id, %method, path, "{}", problem.detail);
        }
        let mut rendered = problem.render();
        for name in [header::ALLOW, header::CONNECTION] {
            if let Some(value) = response.headers_mut().remove(&name) {
                rendered.headers_mut().insert(name, value);
            }
        }
        response = rendered;
    }
    let status = response.status();
    tracing::debug!(
        request_id = id.to_str().unwrap_or_default(), %method, path, status = status.as_u16(),
        took_ms = began.elapsed().as_millis() as u64, "answered"
    );
    response.headers_mut().insert(REQUEST_ID, id);
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// An error that none of the routes made: the frameworks below have a few of their own.
fn unexplained(response: &Response) -> Option<Problem> {
    let status = response.status();
    let explained = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    if explained || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::Method,
        status if status.is_client_error() => ErrorCode::Malformed,
        _ => ErrorCode::Internal,
    };
    let what = status.canonical_reason().unwrap_or("no reason given");
    Some(Problem {
        status: status.as_u16(),
        ..Problem::new(code, format!("the request was refused: {what}"))
    })
}

fn fits(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= REQUEST_ID_BYTES_MAX
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn random_id() -> HeaderValue {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    HeaderValue::from_str(&HEXLOWER.encode(&bytes)).expect("hexadecimal digits")
}

/// Counts answers by route and status, so that a stranger's paths make no new series.
pub(crate) async fn count(matched: MatchedPath, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = method_label(request.method().as_str());
    let response = next.run(request).await;
    let route = matched.as_str().to_owned();
    let status = response.status().as_u16().to_string();
    metrics::counter!("form_api_requests_total", "method" => method, "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("form_api_request_seconds", "route" => route).record(began.elapsed().as_secs_f64());
    response
}

fn method_label(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        _ => "other",
    }
}

/// For routes that answer at once: a bounded number of them, each for a bounded time.
pub(crate) async fn bound(State(app): State<App>, request: Request, next: Next) -> Response {
    let _place = match place(&app.requests, "requests") {
        Ok(place) => place,
        Err(problem) => return problem.into_response(),
    };
    match tokio::time::timeout(app.limits.answer_time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = app.limits.answer_time.as_secs();
            Problem::new(
                ErrorCode::Timeout,
                format!("there was no answer within {seconds} seconds"),
            )
            .hint("a submitted command may still count: ask for it by its id, or submit it again as it is")
            .into_response()
        }
    }
}

/// What a panic in a route becomes.
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!("a request made the API panic: {text}");
    Problem::new(ErrorCode::Internal, "the node made a mistake; its log says more").into_response()
}

/// No such path.
pub(crate) async fn no_such_path(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    Problem::new(ErrorCode::NoSuchPath, format!("there is no path `{path}`"))
        .hint("see /openapi.json for those that there are")
}

/// No such method on this path.
pub(crate) async fn no_such_method(request: Request) -> Problem {
    Problem::new(
        ErrorCode::Method,
        format!("the path does not take {}", request.method()),
    )
    .hint("see /openapi.json for those that it takes")
}
