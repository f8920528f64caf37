//! Small calls to the kernel that several parts need.

use std::time::Duration;

/// A clock further off than this is set; a smaller difference is the way of the host's message.
const CLOCK_STEP: Duration = Duration::from_millis(200);

/// Milliseconds since the guest's kernel started.
pub(crate) fn uptime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1000 + now.tv_nsec.cast_unsigned() / 1_000_000
}

/// Sets the clock where it is off.
pub(crate) fn set_clock(unix_us: u64) {
    let wanted = Duration::from_micros(unix_us);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    if now.abs_diff(wanted) < CLOCK_STEP {
        return;
    }
    let Ok(seconds) = i64::try_from(wanted.as_secs()) else {
        return;
    };
    let time = rustix::time::Timespec {
        tv_sec: seconds,
        tv_nsec: wanted.subsec_nanos().into(),
    };
    if let Err(error) = rustix::time::clock_settime(rustix::time::ClockId::Realtime, time) {
        eprintln!("form-init: the clock cannot be set: {error}");
    }
}

/// Restarts the machine, which its monitor takes for its end. Does not return.
pub(crate) fn reboot() -> ! {
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    // Only a process without the right to do so comes here; PID 1 has it.
    std::process::exit(1);
}

/// A thread with a small stack.
pub(crate) fn thread(name: &str, body: impl FnOnce() + Send + 'static) {
    const STACK_BYTES: usize = 128 * 1024;
    let made = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(body);
    if let Err(error) = made {
        eprintln!("form-init: no thread {name}: {error}");
    }
}
