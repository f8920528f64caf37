//! Checks from inside the guest whether the workload serves.
//!
//! Until it serves for the first time it is checked often, since somebody waits for it; after that every two
//! seconds. One good check makes it serve, two bad ones in a row make it not serve: a single slow answer is
//! no failure.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use vmm::spec::Health;

use crate::relay::Relay;

/// Pause between checks until the workload serves for the first time.
pub(crate) const EAGER: Duration = Duration::from_millis(100);
/// Pause between checks of a workload that serves.
pub(crate) const CALM: Duration = Duration::from_secs(2);
/// Pause between checks of a workload that served and does not now.
pub(crate) const WORRIED: Duration = Duration::from_millis(500);
/// How long a process must run to count as serving.
const PROCESS_SETTLES: Duration = Duration::from_millis(300);
/// What a check may take. Generous: an emulated processor is slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How much of an answer is read, and let go.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How much of an answer is looked at.
const ANSWER_BYTES_MAX: usize = 512;
/// How many bad checks in a row make a serving workload not serve.
const BAD_MAX: u32 = 2;

/// Turns single checks into a verdict.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    serving: bool,
    served: bool,
    bad: u32,
}

impl Verdict {
    /// Takes a check; the new verdict when it changed.
    pub(crate) fn take(&mut self, good: bool) -> Option<bool> {
        let before = self.serving;
        if good {
            self.bad = 0;
            self.serving = true;
            self.served = true;
        } else {
            self.bad = self.bad.saturating_add(1);
            self.serving &= self.bad < BAD_MAX;
        }
        (before != self.serving).then_some(self.serving)
    }

    /// The entrypoint is gone: nothing serves. The verdict when it changed.
    pub(crate) fn gone(&mut self) -> Option<bool> {
        let before = std::mem::take(self);
        before.serving.then_some(false)
    }

    /// Pause until the next check.
    pub(crate) fn pause(&self) -> Duration {
        match (self.serving, self.served) {
            (true, _) => CALM,
            (false, true) => WORRIED,
            (false, false) => EAGER,
        }
    }
}

/// Checks one workload, from inside the guest.
///
/// A port counts only when it can be reached at the instance's own address, where the front doors look for
/// it; for a workload that listens elsewhere only, [`Relay`] sees to that.
pub(crate) struct Checker {
    health: Health,
    ipv6: Ipv6Addr,
    ipv4: Ipv4Addr,
    relay: Relay,
    /// The last check found the port within reach, so that is not asked again.
    reached: bool,
}

impl Checker {
    /// A checker for a guest with these addresses.
    pub(crate) fn new(health: Health, ipv6: Ipv6Addr, ipv4: Ipv4Addr) -> Self {
        Self {
            health,
            ipv6,
            ipv4,
            relay: Relay::new(ipv6),
            reached: false,
        }
    }

    /// Makes one check; `None` when the workload has not run long enough to tell.
    pub(crate) fn check(&mut self, running_for: Duration) -> Option<bool> {
        match self.health.clone() {
            Health::Process => (running_for >= PROCESS_SETTLES).then_some(true),
            Health::Tcp { port } => Some(self.relay.reach(port, self.ipv4)),
            Health::Http { port, path } => {
                self.reached = self.reached || self.relay.reach(port, self.ipv4);
                // The first address that takes a connection decides.
                self.reached = self.reached
                    && self
                        .targets()
                        .find_map(|target| connect(target, port))
                        .is_some_and(|stream| answers(stream, &path).unwrap_or(false));
                Some(self.reached)
            }
        }
    }

    /// Where the workload may listen: on all addresses as a rule, else on one of these. The relay's answer
    /// would be its own.
    fn targets(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let own = (!self.relay.is_open()).then_some(IpAddr::V6(self.ipv6));
        let first = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        first.into_iter().chain(own).chain([self.ipv4.into()])
    }
}

fn connect(target: IpAddr, port: u16) -> Option<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(target, port), ANSWER_LIMIT).ok()
}

fn answers(mut stream: TcpStream, path: &str) -> std::io::Result<bool> {
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: form-init\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let begin = std::time::Instant::now();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    let mut read = 0;
    // A server that trickles must not keep the check for ever. The rest of the answer is read too: one that
    // is hung up on in the middle of it would complain in the workload's log at every check.
    while read < READ_BYTES_MAX && begin.elapsed() < ANSWER_LIMIT {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                read += length;
                let room = ANSWER_BYTES_MAX.saturating_sub(answer.len()).min(length);
                answer.extend_from_slice(&piece[..room]);
            }
            // What counts may have come already.
            Err(_) if answer.contains(&b'\n') => break,
            Err(error) => return Err(error),
        }
    }
    Ok(is_good(&answer))
}

/// Whether an answer opens with a status of 200 to 399.
fn is_good(answer: &[u8]) -> bool {
    let mut words = answer.split(|byte| *byte == b' ');
    let http = words.next().is_some_and(|word| word.starts_with(b"HTTP/1."));
    let status = words
        .next()
        .and_then(|word| std::str::from_utf8(word.get(..3)?).ok()?.parse().ok());
    http && status.is_some_and(|status: u16| (200..400).contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn one_good_check_serves_and_one_bad_check_does_not_end_it() {
        let mut verdict = Verdict::default();
        assert_eq!((verdict.take(false), verdict.pause()), (None, EAGER));
        assert_eq!((verdict.take(true), verdict.pause()), (Some(true), CALM));
        assert_eq!(verdict.take(false), None);
        assert_eq!(verdict.take(true), None);
        assert_eq!(verdict.take(false), None);
        assert_eq!((verdict.take(false), verdict.pause()), (Some(false), WORRIED));
        assert_eq!(verdict.take(true), Some(true));
        assert_eq!((verdict.gone(), verdict.pause()), (Some(false), EAGER));
        assert_eq!(verdict.gone(), None);
    }

    #[test]
    fn only_statuses_from_200_to_399_are_good() {
        for (answer, good) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], true),
            (b"HTTP/1.0 399 x\r\n", true),
            (b"HTTP/1.1 204\r\n", true),
            (b"HTTP/1.1 404 Not Found\r\n", false),
            (b"HTTP/1.1 503 x\r\n", false),
            (b"HTTP/1.1 100 Continue\r\n", false),
            (b"SSH-2.0 200 x\r\n", false),
            (b"HTTP/1.1 2", false),
            (b"HTTP/1.1", false),
            (b"", false),
            (&[0xff, 0xfe, b' ', 0xff], false),
        ] {
            assert_eq!(is_good(answer), good, "{:?}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn a_server_is_asked_and_its_status_decides() {
        // ::1 stands for the instance's own address.
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tcp = checker(Health::Tcp { port });
        assert_eq!(tcp.check(Duration::ZERO), Some(true));
        let server = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut statuses = ["200 OK", "500 no"].into_iter();
            while let Some(status) = statuses.clone().next() {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                // A connection without a request only looks whether somebody listens.
                if length > 0 {
                    seen.push(String::from_utf8_lossy(&request[..length]).into_owned());
                    stream
                        .write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())
                        .unwrap();
                    statuses.next();
                }
            }
            seen
        });
        let mut http = checker(Health::Http {
            port,
            path: "/health".to_owned(),
        });
        assert_eq!(http.check(Duration::ZERO), Some(true));
        assert_eq!(http.check(Duration::ZERO), Some(false));
        assert!(server.join().unwrap()[0].starts_with("GET /health HTTP/1.1\r\nHost: "));
        assert_eq!(http.check(Duration::ZERO), Some(false), "nobody listens now");
        assert_eq!(tcp.check(Duration::ZERO), Some(false));
    }

    #[test]
    fn a_relay_does_not_answer_for_a_workload_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tcp = checker(Health::Tcp { port });
        assert_eq!(tcp.check(Duration::ZERO), Some(true));
        // The relay listens at ::1, where the checker would look for the workload too.
        drop(listener);
        let mut http = checker(Health::Http {
            port,
            path: "/".to_owned(),
        });
        http.relay = tcp.relay;
        assert_eq!(http.check(Duration::ZERO), Some(false));
    }

    #[test]
    fn a_process_serves_once_it_has_settled() {
        let mut process = checker(Health::Process);
        assert_eq!(process.check(Duration::from_millis(10)), None);
        assert_eq!(process.check(PROCESS_SETTLES), Some(true));
    }

    fn checker(health: Health) -> Checker {
        Checker::new(health, Ipv6Addr::LOCALHOST, Ipv4Addr::LOCALHOST)
    }
}
