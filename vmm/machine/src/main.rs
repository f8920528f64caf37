//! `form-machine FOLDER`: one process for each virtual machine. The daemon starts it and may die; the machine
//! goes on, and a later daemon finds it by the control socket in its folder.
//!
//! [`life`] decides what becomes of the machine, [`supervisor`] does it. `form-machine --probe-kvm` instead
//! runs a tiny guest under KVM and says whether a real kernel could run in it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod control;
mod life;
mod supervisor;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(argument), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: form-machine FOLDER\nThe daemon starts it; FOLDER holds the machine's order.");
        return ExitCode::from(2);
    };
    if argument == vmm::io::probe::PROBE_ARGUMENT {
        return match vmm::io::probe::kvm() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        };
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    // One thread: the guest's processors are the monitor's, and this process only passes bytes on.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(supervisor::run(&PathBuf::from(argument))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
