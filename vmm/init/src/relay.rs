//! Makes a workload that listens on IPv4 or on loopback only reachable at the instance's own IPv6 address,
//! where the front doors of all nodes look for it: connections there are passed on inside the guest.
//!
//! A workload that listens at that address itself (or on `::`) is left alone. What is passed on loses its
//! origin: the workload sees a client on loopback.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::system;

/// Connections passed on at once; more are closed at once.
const CONNECTIONS_MAX: usize = 256;

/// What a connection inside the guest may take. Generous: an emulated processor is slow.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 16 * 1024;

/// The relay of a guest: closed until a workload needs it.
pub(crate) struct Relay {
    own: Ipv6Addr,
    /// Where the workload listens, once the relay is open.
    inside: Option<Arc<Mutex<SocketAddr>>>,
}

impl Relay {
    /// A closed relay for the instance's own address.
    pub(crate) fn new(own: Ipv6Addr) -> Self {
        Self { own, inside: None }
    }

    /// Whether connections are passed on: then the own address says nothing about the workload.
    pub(crate) fn is_open(&self) -> bool {
        self.inside.is_some()
    }

    /// Makes a port reachable at the own address, if the workload listens anywhere; whether it is.
    pub(crate) fn reach(&mut self, port: u16, ipv4: Ipv4Addr) -> bool {
        if self.inside.is_none() && accepts(SocketAddr::new(self.own.into(), port)) {
            return true;
        }
        let places: [IpAddr; 3] = [
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
            ipv4.into(),
        ];
        let found = places
            .map(|place| SocketAddr::new(place, port))
            .into_iter()
            .find(|place| accepts(*place));
        let Some(place) = found else { return false };
        match &self.inside {
            Some(inside) => *inside.lock().unwrap_or_else(PoisonError::into_inner) = place,
            None => match TcpListener::bind(SocketAddr::new(self.own.into(), port)) {
                Ok(listener) => self.inside = Some(serve(listener, place)),
                Err(_) => return false,
            },
        }
        true
    }
}

fn accepts(place: SocketAddr) -> bool {
    TcpStream::connect_timeout(&place, CONNECT_LIMIT).is_ok()
}

/// Passes connections on until the guest ends.
fn serve(listener: TcpListener, place: SocketAddr) -> Arc<Mutex<SocketAddr>> {
    let inside = Arc::new(Mutex::new(place));
    let target = Arc::clone(&inside);
    let open = Arc::new(AtomicUsize::new(0));
    system::thread("relay", move || {
        for client in listener.incoming().flatten() {
            let taken = Place(Arc::clone(&open));
            if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
                continue;
            }
            let place = *target.lock().unwrap_or_else(PoisonError::into_inner);
            system::thread("relay", move || {
                let _taken = taken;
                // The client sees a broken connection, as it would from the workload itself.
                let _ = pass_on(client, place);
            });
        }
    });
    inside
}

/// One of the places for connections, given back in the end.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn pass_on(client: TcpStream, place: SocketAddr) -> io::Result<()> {
    let workload = TcpStream::connect_timeout(&place, CONNECT_LIMIT)?;
    for stream in [&client, &workload] {
        stream.set_nodelay(true)?;
        // A peer that is gone without a word must not hold a place for ever.
        rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    }
    let (client_out, workload_out) = (client.try_clone()?, workload.try_clone()?);
    let back = std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(move || copy(workload, client_out))?;
    copy(client, workload_out);
    let _ = back.join();
    Ok(())
}

/// Copies until one side ends, then lets the other know.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; PIECE_BYTES];
    loop {
        match from.read(&mut piece) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(length) if to.write_all(&piece[..length]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says "hi", then what it was told.
    fn echo(listener: TcpListener) {
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut told = Vec::new();
                    stream.write_all(b"hi ").unwrap();
                    stream.read_to_end(&mut told).unwrap_or_default();
                    let _ = stream.write_all(&told);
                });
            }
        });
    }

    fn ask(place: SocketAddr, words: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(place).unwrap();
        stream.write_all(words).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_workload_on_ipv4_only_is_reached_at_the_own_address() {
        // ::1 stands for the instance's own address; nothing listens there but the relay.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        echo(listener);
        let own = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        let mut relay = Relay::new(Ipv6Addr::LOCALHOST);
        assert!(relay.reach(port, Ipv4Addr::LOCALHOST) && relay.is_open());
        assert_eq!(ask(own, b"there"), b"hi there");
        assert!(
            relay.reach(port, Ipv4Addr::LOCALHOST),
            "asked again, it stays open"
        );
        let large = vec![7; 1 << 20];
        assert_eq!(ask(own, &large).len(), large.len() + 3);
    }

    #[test]
    fn a_workload_that_listens_there_itself_is_left_alone() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut relay = Relay::new(Ipv6Addr::LOCALHOST);
        assert!(relay.reach(port, Ipv4Addr::LOCALHOST) && !relay.is_open());
    }

    #[test]
    fn where_nothing_listens_nothing_is_reached() {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut relay = Relay::new(Ipv6Addr::LOCALHOST);
        assert!(!relay.reach(port, Ipv4Addr::LOCALHOST) && !relay.is_open());
    }
}
