//! One request from its arrival to the answer's last byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use net::fronts::Target;
use tokio::time::Instant;

use crate::choice;
use crate::counters::{HostCounts, count};
use crate::headers::{self, Client, X_REQUEST_ID};
use crate::host::{self, Host};
use crate::io::body::{BodyError, Download, Progress, Upload};
use crate::io::gate::Watch;
use crate::io::pool::{Active, ConnectError, Lease, Sender};
use crate::io::server::{Place, Shared};
use crate::io::tunnel::tunnel;
use crate::problem::{Problem, RETRY_AFTER_S};

/// Instances that are tried for one request.
const TRIES_MAX: usize = 3;
/// Kept connections that may turn out dead before a new one is made.
const STALE_MAX: usize = 2;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, BodyError>>;

/// The connection that a request came by.
#[derive(Clone)]
pub(super) struct Arrival {
    pub(super) client: SocketAddr,
    pub(super) watch: Watch,
    pub(super) place: Arc<Place>,
}

/// Answers a request, whatever it is.
pub(super) async fn exchange(shared: Arc<Shared>, arrival: Arrival, request: Request<Incoming>) -> Answer {
    let address = arrival.client.ip();
    let trusted = shared
        .config
        .trusted_proxies
        .iter()
        .any(|prefix| prefix.contains(address));
    let given = headers::given_request_id(request.headers())
        .filter(|_| trusted)
        .map(str::to_owned);
    let request_id = given.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let result = match accept(&shared, &arrival, &request) {
        Ok((host, targets)) => {
            let counts = shared.counts.host(&host.name);
            count(&counts.requests);
            let exchange = Exchange {
                shared: &shared,
                arrival,
                trusted,
                request_id: &request_id,
                host: &host,
                counts: &counts,
            };
            let result = exchange.run(request, &targets).await;
            note(&counts, &result);
            result
        }
        Err(problem) => {
            match &problem {
                Problem::UnknownHost(_) => count(&shared.counts.requests_unknown_host),
                _ => count(&shared.counts.requests_malformed),
            }
            Err(problem)
        }
    };
    result.unwrap_or_else(|problem| told(&problem, &request_id))
}

/// The door: form, host, targets.
fn accept(
    shared: &Shared,
    arrival: &Arrival,
    request: &Request<Incoming>,
) -> Result<(Host, Vec<Target>), Problem> {
    if let Some(error) = arrival.watch.refused() {
        return Err(Problem::Framing(error));
    }
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Problem::Method);
    }
    let mut head = Request::new(()).into_parts().0;
    head.uri = request.uri().clone();
    head.headers = request.headers().clone();
    let host = host::host(&head).map_err(Problem::Host)?;
    match shared.table.load().hosts.get(&host.name) {
        Some(targets) => Ok((host, targets.clone())),
        None => Err(Problem::UnknownHost(host.name)),
    }
}

fn note(counts: &HostCounts, result: &Result<Answer, Problem>) {
    count(match result {
        Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => &counts.upgrades,
        Ok(answer) if answer.status().is_server_error() => &counts.answers_5xx,
        Ok(answer) if answer.status().is_client_error() => &counts.answers_4xx,
        Ok(_) => &counts.answers_good,
        Err(Problem::NoInstance(_)) => &counts.no_target,
        Err(Problem::Timeout(_)) => &counts.timed_out,
        Err(_) => &counts.failed,
    });
}

/// What a client is told instead of an instance's answer.
fn told(problem: &Problem, request_id: &str) -> Answer {
    let body = Full::new(Bytes::from(problem.body(request_id)))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = problem.status();
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    match problem {
        Problem::NoInstance(_) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        // What follows on such a connection cannot be told apart from this request.
        Problem::Framing(_) | Problem::Host(_) | Problem::SlowBody => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    answer
}

/// What one attempt with a connection came to.
enum Attempt {
    Answered(Response<Incoming>),
    /// Failed; the request is back if not a byte of it was sent.
    Failed(Option<Request<Upload>>),
    TooSlow,
}

struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    arrival: Arrival,
    trusted: bool,
    request_id: &'a str,
    host: &'a Host,
    counts: &'a HostCounts,
}

impl Exchange<'_> {
    async fn run(&self, mut request: Request<Incoming>, targets: &[Target]) -> Result<Answer, Problem> {
        let host = || self.host.name.clone();
        if targets.is_empty() {
            return Err(Problem::NoInstance(host()));
        }
        let upgrade = headers::wanted_upgrade(request.headers()).filter(|_| request.method() == Method::GET);
        let upgraded = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let progress = Arc::new(Progress::new());
        let (request, again) = self.outgoing(request, upgrade.as_ref(), &progress);
        let mut request = Some(request);
        let pool = &self.shared.pool;
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let mut tried = Vec::new();
        let mut problem = Problem::BadGateway(host());
        while tried.len() < TRIES_MAX
            && let Some(target) = choice::choose(targets, &tried, turn, |t| pool.standing(t.address))
        {
            if !tried.is_empty() {
                count(&self.counts.retries);
            }
            tried.push(target);
            let active = pool.begin(target.address);
            for kept in (0..=STALE_MAX).rev() {
                let reused = if kept > 0 { pool.take(target.address) } else { None };
                let is_reused = reused.is_some();
                let mut sender = match reused {
                    Some(sender) => sender,
                    None => match pool.connect(target.address).await {
                        Ok(sender) => sender,
                        Err(error) => {
                            tracing::debug!(target = %target.address, %error, "an instance was not reached");
                            problem = match error {
                                ConnectError::Slow => Problem::Timeout(host()),
                                _ => Problem::BadGateway(host()),
                            };
                            break;
                        }
                    },
                };
                let Some(now) = request.take() else {
                    return Err(problem);
                };
                match self.attempt(&mut sender, now, &progress).await {
                    Attempt::Answered(response) => {
                        return self.answer(response, sender, active, target, upgraded);
                    }
                    Attempt::TooSlow => return Err(Problem::Timeout(host())),
                    Attempt::Failed(_) if progress.is_slow() => return Err(Problem::SlowBody),
                    Attempt::Failed(back) => {
                        problem = Problem::BadGateway(host());
                        request = back.or_else(|| again.as_ref().map(Repeatable::request));
                        if request.is_none() {
                            return Err(problem);
                        }
                        if !is_reused {
                            break;
                        }
                        count(&self.counts.retries);
                    }
                }
            }
        }
        Err(problem)
    }

    /// The request as the instance gets it, and what it takes to send it once more if it may be.
    fn outgoing(
        &self,
        request: Request<Incoming>,
        upgrade: Option<&HeaderValue>,
        progress: &Arc<Progress>,
    ) -> (Request<Upload>, Option<Repeatable>) {
        let (mut head, body) = request.into_parts();
        let client = Client {
            address: self.arrival.client.ip(),
            trusted: self.trusted,
            host: &self.host.said,
            request_id: self.request_id,
        };
        headers::to_instance(&mut head.headers, client);
        if let Some(upgrade) = upgrade {
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, upgrade.clone());
        }
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        head.version = Version::HTTP_11;
        head.extensions.clear();
        let repeatable = body.is_end_stream() && head.method.is_idempotent();
        let again = repeatable.then(|| Repeatable {
            method: head.method.clone(),
            uri: head.uri.clone(),
            headers: head.headers.clone(),
        });
        let body = Upload::new(body, self.shared.config.body_wait, progress.clone());
        (Request::from_parts(head, body), again)
    }

    /// Sends the request and waits for the head of the answer. The clock runs only while the request's body
    /// does not move.
    async fn attempt(&self, sender: &mut Sender, request: Request<Upload>, progress: &Progress) -> Attempt {
        let mut until = Instant::now() + self.shared.config.answer_wait;
        let answer = sender.try_send_request(request);
        tokio::pin!(answer);
        loop {
            match tokio::time::timeout_at(until, &mut answer).await {
                Ok(Ok(response)) => return Attempt::Answered(response),
                Ok(Err(error)) => return self.failed(error),
                Err(_) => {
                    // While the client is waited for, its own limit counts.
                    let from = if progress.is_waiting() {
                        Instant::now()
                    } else {
                        progress.last()
                    };
                    if from + self.shared.config.answer_wait <= until {
                        return Attempt::TooSlow;
                    }
                    until = from + self.shared.config.answer_wait;
                }
            }
        }
    }

    fn failed(&self, mut error: TrySendError<Request<Upload>>) -> Attempt {
        let back = error.take_message();
        tracing::debug!(host = self.host.name, error = %error.error(), "an exchange with an instance failed");
        Attempt::Failed(back)
    }

    fn answer(
        &self,
        mut response: Response<Incoming>,
        sender: Sender,
        active: Active,
        target: &Target,
        upgraded: Option<OnUpgrade>,
    ) -> Result<Answer, Problem> {
        let upgrade = response.headers().get(UPGRADE).cloned();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client), Some(upgrade)) = (upgraded, upgrade) else {
                // Nobody asked for it.
                return Err(Problem::BadGateway(self.host.name.clone()));
            };
            let instance = hyper::upgrade::on(&mut response);
            self.arrival.watch.pass_through();
            let (stop, wait) = (self.shared.kill.clone(), self.shared.config.tunnel_wait);
            let place = self.arrival.place.clone();
            self.shared.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tunnel(client, instance, wait) => {}
                }
                drop((place, active, sender));
            });
            let (mut head, body) = response.into_parts();
            headers::to_client(&mut head.headers, self.request_id, &target.instance);
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, upgrade);
            return Ok(Response::from_parts(
                head,
                body.map_err(BodyError::Http).boxed_unsync(),
            ));
        }
        let (mut head, body) = response.into_parts();
        headers::to_client(&mut head.headers, self.request_id, &target.instance);
        head.version = Version::HTTP_11;
        head.extensions.clear();
        let lease = Lease::new(sender, active);
        let body = Download::new(body, self.shared.config.body_wait, lease);
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }
}

/// A request that may be sent again after it was sent: idempotent and without a body.
struct Repeatable {
    method: Method,
    uri: Uri,
    headers: http::HeaderMap,
}

impl Repeatable {
    fn request(&self) -> Request<Upload> {
        let mut request = Request::new(Upload::empty());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}
