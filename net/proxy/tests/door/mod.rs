//! A front door and instances behind it, on loopback.

#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use net::fronts::{FrontTable, Target};
use net_proxy::{Proxy, ProxyConfig, ProxyServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits for a future, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("no {what} within {LIMIT:?}"))
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub struct Door {
    pub server: ProxyServer,
    pub at: SocketAddr,
    pub table: Arc<ArcSwap<FrontTable>>,
}

pub fn targets(addresses: &[SocketAddr]) -> Vec<Target> {
    let target = |(n, address): (usize, &SocketAddr)| Target {
        address: *address,
        instance: format!("i{n}"),
    };
    addresses.iter().enumerate().map(target).collect()
}

pub fn fronts(hosts: &[(&str, &[SocketAddr])]) -> Arc<FrontTable> {
    let hosts: BTreeMap<_, _> = hosts
        .iter()
        .map(|(host, at)| ((*host).to_owned(), targets(at)))
        .collect();
    Arc::new(FrontTable { hosts })
}

impl Door {
    pub async fn open(hosts: &[(&str, &[SocketAddr])]) -> Self {
        Self::with(ProxyConfig::default(), hosts).await
    }

    pub async fn with(config: ProxyConfig, hosts: &[(&str, &[SocketAddr])]) -> Self {
        let table = Arc::new(ArcSwap::new(fronts(hosts)));
        let config = ProxyConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..config
        };
        let server = Proxy::start(config, table.clone()).await.unwrap();
        let at = server.listen_addresses()[0];
        Self { server, at, table }
    }

    /// Sends bytes on a connection of their own and returns all that comes back until it is closed.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is an end as well.
        let _ = soon("answer", stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A request without a body; status, headers, body.
    pub async fn get(&self, host: &str, path: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::get(path)
            .header("host", host)
            .body(Full::default())
            .unwrap();
        self.send(request).await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, String) {
        let response = soon("answer", open_request(self.at, request)).await;
        let (head, body) = response.into_parts();
        let body = soon("body", body.collect()).await.unwrap().to_bytes();
        (
            head.status,
            head.headers,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }
}

/// Sends a request on a connection of its own.
pub async fn open_request<B>(at: SocketAddr, request: Request<B>) -> Response<Incoming>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

/// What an instance saw.
#[derive(Clone, Default)]
pub struct Seen(pub Arc<Mutex<Vec<(String, HeaderMap)>>>);

impl Seen {
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn last(&self) -> (String, HeaderMap) {
        self.0.lock().unwrap().last().cloned().unwrap()
    }
}

/// An instance that answers with its name, the method and the path, and remembers what it saw.
pub async fn instance(name: &'static str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let remember = seen.clone();
    let at = serve(move |request: Request<Incoming>| {
        let remember = remember.clone();
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            remember
                .0
                .lock()
                .unwrap()
                .push((line.clone(), request.headers().clone()));
            let body = request
                .into_body()
                .collect()
                .await
                .map(|body| body.to_bytes().len())
                .unwrap_or(0);
            Response::new(Full::new(Bytes::from(format!("{name} {line} {body}"))))
        }
    })
    .await;
    (at, seen)
}

/// An instance with a handler.
pub async fn serve<F, R, B>(handler: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let handler = handler.clone();
                    async move { Ok::<_, Infallible>(handler(request).await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    at
}

/// An instance that speaks raw bytes: each connection goes to the handler.
pub async fn raw_instance<F, R>(handler: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handler(stream));
        }
    });
    at
}

/// Reads the head of a request.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}
