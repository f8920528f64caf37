//! Does what [`crate::supervise`] decides: starts the entrypoint, forwards its output, waits for every process
//! of the guest that ends, has the health checked.

use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use vmm::guest::{Ending, Exit, GuestConfig, LogSource, ToGuest, ToHost};
use vmm::spec::Workload;

use crate::health::{self, Checker, Verdict};
use crate::port::Outbox;
use crate::supervise::{Do, Happened, Supervision};
use crate::{Event, shutdown, system};

/// What a workload finds in its environment unless it says otherwise.
const ENVIRONMENT: [(&str, &str); 3] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/root"),
    ("TERM", "dumb"),
];

/// How long output may take on its way to the host before the guest ends.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// Held while a process is started: the one that is waited for then is not the reaper's.
static STARTING: Mutex<()> = Mutex::new(());

/// Runs the workload to its end.
pub(crate) fn run(
    config: &GuestConfig,
    outbox: &Outbox,
    events: &mpsc::Receiver<Event>,
    events_in: mpsc::Sender<Event>,
) -> Ending {
    let output = match Output::start(outbox) {
        Ok(output) => output,
        Err(error) => {
            return Ending::Broken {
                reason: format!("no pipe for the output: {error}"),
            };
        }
    };
    let reaper = events_in.clone();
    system::thread("reaper", move || reap(&reaper));
    let checks = Checks::start(config, events_in);
    let mut running = Running {
        config,
        outbox,
        output,
        checks,
        verdict: Verdict::default(),
    };
    let ending = running.attend(events);
    running.output.flush();
    outbox.flush(FLUSH_WAIT);
    ending
}

struct Running<'a> {
    config: &'a GuestConfig,
    outbox: &'a Outbox,
    output: Output,
    checks: Checks,
    verdict: Verdict,
}

impl Running<'_> {
    fn attend(&mut self, events: &mpsc::Receiver<Event>) -> Ending {
        let (mut supervision, first) = Supervision::begin(self.config.workload.restart);
        let mut todo = vec![first];
        loop {
            while let Some(next) = todo.pop() {
                match self.perform(next, &mut supervision) {
                    Ok(more) => todo.extend(more),
                    Err(ending) => return ending,
                }
            }
            let wait = supervision.due_ms().map_or(Duration::from_secs(3600), |due| {
                Duration::from_millis(due.saturating_sub(system::uptime_ms()))
            });
            let happened = match events.recv_timeout(wait) {
                Ok(Event::Host(ToGuest::Stop { grace_ms })) => Happened::Stop { grace_ms },
                Ok(Event::Host(ToGuest::PowerOff)) => Happened::Stop { grace_ms: 0 },
                Ok(Event::Host(ToGuest::Clock { unix_us })) => {
                    system::set_clock(unix_us);
                    continue;
                }
                Ok(Event::Host(ToGuest::Configure(_))) => continue,
                Ok(Event::HostGarbled(what)) => {
                    // The workload is not at fault: it goes on, though nobody can stop it but by the power.
                    eprintln!("form-init: the host spoke nonsense: {what}");
                    continue;
                }
                Ok(Event::Exited { pid, exit }) => Happened::Exited { pid, exit },
                Ok(Event::Checked { attempt, good }) => {
                    if attempt == supervision.starts() && supervision.is_running() {
                        let changed = self.verdict.take(good);
                        self.say_serving(changed);
                    }
                    self.checks.set_pause(self.verdict.pause());
                    continue;
                }
                Err(_) => Happened::Tick,
            };
            todo = supervision.handle(happened, system::uptime_ms());
            if !supervision.is_running() {
                self.checks.set_target(None);
                let changed = self.verdict.gone();
                self.say_serving(changed);
            }
        }
    }

    fn say_serving(&self, changed: Option<bool>) {
        if let Some(serving) = changed {
            self.outbox.send(&ToHost::Serving {
                serving,
                uptime_ms: system::uptime_ms(),
            });
        }
    }

    fn perform(&mut self, act: Do, supervision: &mut Supervision) -> Result<Vec<Do>, Ending> {
        match act {
            Do::Start { attempt } => {
                let happened = match start(&self.config.workload, &self.config.hostname, &self.output) {
                    Ok(pid) => {
                        self.outbox.send(&ToHost::Started {
                            attempt,
                            uptime_ms: system::uptime_ms(),
                        });
                        self.checks.set_pause(health::EAGER);
                        self.checks.set_target(Some(attempt));
                        Happened::Started { pid }
                    }
                    Err(reason) => Happened::CannotStart { reason },
                };
                return Ok(supervision.handle(happened, system::uptime_ms()));
            }
            Do::SayRestarting { exit, pause_ms } => {
                // What it wrote last comes before the news of its end.
                self.output.flush();
                self.outbox.send(&ToHost::Restarting { exit, pause_ms });
            }
            Do::Terminate { pid: NO_PROCESS } => {
                let exited = Happened::Exited {
                    pid: NO_PROCESS,
                    exit: Exit::Status(0),
                };
                return Ok(supervision.handle(exited, system::uptime_ms()));
            }
            Do::Terminate { pid } => shutdown::terminate_group(pid),
            Do::KillAll => shutdown::signal_all(Signal::KILL),
            Do::End(ending) => return Err(ending),
        }
        Ok(Vec::new())
    }
}

/// The process number that stands for an entrypoint that is empty: it runs for ever.
const NO_PROCESS: i32 = 0;

/// Starts the entrypoint; its process number.
fn start(workload: &Workload, hostname: &str, output: &Output) -> Result<i32, String> {
    let Some((program, arguments)) = workload.entrypoint.split_first() else {
        return Ok(NO_PROCESS);
    };
    let workdir = if workload.workdir.is_empty() {
        "/"
    } else {
        &workload.workdir
    };
    std::fs::create_dir_all(workdir).map_err(|error| format!("its working directory {workdir}: {error}"))?;
    let named = |error: std::io::Error| format!("{program}: {error}");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .env("HOSTNAME", hostname)
        .envs(workload.env.iter().map(|(key, value)| (key, value)))
        .current_dir(workdir)
        .stdin(Stdio::null())
        .stdout(output.stdout.try_clone().map_err(named)?)
        .stderr(output.stderr.try_clone().map_err(named)?);
    #[allow(unsafe_code)]
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(std::io::Error::from));
    }
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn().map_err(named)?;
    i32::try_from(child.id()).map_err(|_| format!("{program}: an odd process number"))
}

/// Waits for every process that ends, for as long as the guest lives: orphans become children of PID 1.
fn reap(events: &mpsc::Sender<Event>) {
    loop {
        let Some(pid) = next_ended() else {
            // No process at all.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        // Only looked at so far: while one is being started, its starter waits for it if it fails at once.
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = rustix::process::Pid::from_raw(pid) else {
            continue;
        };
        let Ok(Some((_, status))) =
            rustix::process::waitpid(Some(held), rustix::process::WaitOptions::NOHANG)
        else {
            continue;
        };
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => Exit::Status(status),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => continue,
        };
        if events.send(Event::Exited { pid, exit }).is_err() {
            return;
        }
    }
}

/// Waits until some child has ended and leaves it in its place; `None` when there is none to wait for.
#[allow(unsafe_code)]
fn next_ended() -> Option<i32> {
    // SAFETY: siginfo_t is plain data for which zeroes are valid; the call fills it and keeps no pointer.
    let (done, facts) = unsafe {
        let mut facts: libc::siginfo_t = std::mem::zeroed();
        (
            libc::waitid(libc::P_ALL, 0, &raw mut facts, libc::WEXITED | libc::WNOWAIT),
            facts,
        )
    };
    // SAFETY: waitid succeeded, so the fields of a child's end are those that are set.
    (done == 0).then(|| unsafe { facts.si_pid() })
}

/// The pipes of the workload's output, the same for all starts.
struct Output {
    stdout: PipeWriter,
    stderr: PipeWriter,
    taps: [Tap; 2],
}

/// The reading end of a pipe and whether bytes are on their way from it to the outbox.
struct Tap {
    reader: Arc<PipeReader>,
    busy: Arc<AtomicBool>,
}

impl Output {
    fn start(outbox: &Outbox) -> std::io::Result<Self> {
        let tap = |source| -> std::io::Result<(PipeWriter, Tap)> {
            let (reader, writer) = std::io::pipe()?;
            let tap = Tap {
                reader: Arc::new(reader),
                busy: Arc::default(),
            };
            let (reader, busy, outbox) = (tap.reader.clone(), tap.busy.clone(), outbox.clone());
            system::thread("output", move || forward(&reader, &busy, source, &outbox));
            Ok((writer, tap))
        };
        let (stdout, stdout_tap) = tap(LogSource::Stdout)?;
        let (stderr, stderr_tap) = tap(LogSource::Stderr)?;
        Ok(Output {
            stdout,
            stderr,
            taps: [stdout_tap, stderr_tap],
        })
    }

    /// Waits until what was written is in the outbox, with a limit.
    fn flush(&self) {
        let begin = Instant::now();
        for tap in &self.taps {
            // In this order: bytes that left the pipe have set `busy` before.
            while rustix::io::ioctl_fionread(&*tap.reader).is_ok_and(|bytes| bytes > 0)
                || tap.busy.load(Ordering::SeqCst)
            {
                if begin.elapsed() > FLUSH_WAIT {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn forward(mut reader: &PipeReader, busy: &AtomicBool, source: LogSource, outbox: &Outbox) {
    let mut bytes = [0; 8192];
    loop {
        let mut waiting = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
        if poll(&mut waiting, None).is_err() {
            continue;
        }
        busy.store(true, Ordering::SeqCst);
        match reader.read(&mut bytes) {
            Ok(0) | Err(_) => {
                busy.store(false, Ordering::SeqCst);
                return;
            }
            Ok(length) => outbox.log(source, &bytes[..length]),
        }
        busy.store(false, Ordering::SeqCst);
    }
}

/// The thread that checks the health.
#[derive(Clone)]
struct Checks {
    shared: Arc<(Mutex<Plan>, Condvar)>,
}

#[derive(Clone, Copy)]
struct Plan {
    /// Which start of the entrypoint is checked, and since when it runs.
    target: Option<(u32, Instant)>,
    pause: Duration,
}

impl Checks {
    fn start(config: &GuestConfig, events: mpsc::Sender<Event>) -> Self {
        let plan = Plan {
            target: None,
            pause: health::EAGER,
        };
        let checks = Checks {
            shared: Arc::new((Mutex::new(plan), Condvar::new())),
        };
        let mut checker = Checker::new(config.workload.health.clone(), config.nic.ipv6, config.nic.ipv4);
        let own = checks.clone();
        system::thread("health", move || {
            loop {
                let (attempt, since) = own.wait();
                if let Some(good) = checker.check(since.elapsed())
                    && events.send(Event::Checked { attempt, good }).is_err()
                {
                    return;
                }
            }
        });
        checks
    }

    fn set_target(&self, attempt: Option<u32>) {
        self.change(|plan| plan.target = attempt.map(|attempt| (attempt, Instant::now())));
    }

    fn set_pause(&self, pause: Duration) {
        self.change(|plan| plan.pause = pause);
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.shared.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.1.notify_all();
    }

    /// Waits until a check is due.
    fn wait(&self) -> (u32, Instant) {
        let begin = Instant::now();
        let mut plan = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = plan.pause.saturating_sub(begin.elapsed());
            match plan.target {
                Some(target) if left.is_zero() => return target,
                Some(_) => {
                    plan = self
                        .shared
                        .1
                        .wait_timeout(plan, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                None => plan = self.shared.1.wait(plan).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
