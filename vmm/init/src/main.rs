//! PID 1 of a guest, a static binary in the initramfs: brings the guest up as the host configures it, runs and
//! watches the workload, and ends the guest in good order.
//!
//! Build it with `cargo rustc -p form-init --profile guest -- -C target-feature=+crt-static`.
//!
//! In reading order: [`boot`] brings the guest up ([`modules`], [`disks`], [`network`]); [`port`] is the
//! channel to the host; [`supervise`] decides about the workload, [`workload`] does it, [`health`] checks it;
//! [`shutdown`] ends the guest. A fault of PID 1 is a kernel panic, so nothing here may panic on what the host
//! or the workload does.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod boot;
mod disks;
mod health;
mod modules;
mod netlink;
mod network;
mod port;
mod relay;
mod shutdown;
mod supervise;
mod system;
mod workload;

use std::sync::mpsc;
use std::time::Duration;

use vmm::guest::{Ending, GuestConfig, PROTOCOL, ToGuest, ToHost};

use crate::port::{Outbox, Port};

/// What reaches the main loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// The host says something.
    Host(ToGuest),
    /// The host's bytes make no sense: nothing more is heard from it.
    HostGarbled(String),
    /// A process ended.
    Exited {
        /// Which one.
        pid: i32,
        /// How.
        exit: vmm::guest::Exit,
    },
    /// A health check was made.
    Checked {
        /// For which start of the entrypoint.
        attempt: u32,
        /// Whether it held.
        good: bool,
    },
}

fn main() {
    if std::process::id() != 1 {
        eprintln!("form-init is PID 1 of a guest and does nothing else");
        std::process::exit(2);
    }
    let (events_in, events) = mpsc::channel();
    let opened = boot::early().and_then(|()| Port::open());
    let port = match opened {
        Ok(port) => port,
        Err(reason) => {
            // Nobody but the console can be told.
            eprintln!("form-init: {reason}");
            system::reboot();
        }
    };
    let outbox = port.start(events_in.clone());
    outbox.send(&ToHost::Hello {
        protocol: PROTOCOL,
        uptime_ms: system::uptime_ms(),
    });
    let ending = match configured(&events) {
        Ok(config) => match boot::bring_up(&config) {
            Ok(()) => workload::run(&config, &outbox, &events, events_in),
            Err(reason) => Ending::Broken { reason },
        },
        Err(reason) => Ending::Broken { reason },
    };
    end(ending, &outbox, &events);
}

/// Waits for the configuration.
fn configured(events: &mpsc::Receiver<Event>) -> Result<GuestConfig, String> {
    loop {
        match events.recv() {
            Ok(Event::Host(ToGuest::Configure(config))) if config.protocol == PROTOCOL => return Ok(*config),
            Ok(Event::Host(ToGuest::Configure(config))) => {
                return Err(format!(
                    "the host speaks protocol {}, init {PROTOCOL}",
                    config.protocol
                ));
            }
            Ok(Event::Host(ToGuest::Stop { .. } | ToGuest::PowerOff)) => {
                return Err("stopped before it was configured".to_owned());
            }
            Ok(Event::HostGarbled(what)) => return Err(format!("the host spoke nonsense: {what}")),
            Ok(_) => {}
            Err(_) => return Err("the channel to the host is gone".to_owned()),
        }
    }
}

/// How long the host may take to answer the last frame.
const POWER_OFF_WAIT: Duration = Duration::from_secs(3);

fn end(ending: Ending, outbox: &Outbox, events: &mpsc::Receiver<Event>) -> ! {
    shutdown::clean_up();
    outbox.send(&ToHost::Ended(ending));
    let begin = std::time::Instant::now();
    while let Some(left) = POWER_OFF_WAIT.checked_sub(begin.elapsed()) {
        match events.recv_timeout(left) {
            Ok(Event::Host(ToGuest::PowerOff)) | Err(_) => break,
            Ok(_) => {}
        }
    }
    system::reboot();
}
