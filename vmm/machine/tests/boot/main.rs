//! Real guests under QEMU, driven through the daemon's door: what a machine promises, seen from outside.
//!
//! Each test has a network namespace of its own. Where root, QEMU or a tool is missing it says so by name.

#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use rig::{Events, Rig, get, log_of, script, wait_for_log, web_server};
use vmm::io::machines::{Machines, OpenError, StartError, Stop, StopError};
use vmm::machine::MachineState;
use vmm::spec::{Health, MachineId};

const ID: MachineId = MachineId([7; 32]);

fn http() -> Health {
    Health::Http {
        port: 8080,
        path: "/health".to_owned(),
    }
}

#[tokio::test]
async fn a_guest_boots_serves_logs_and_stops_in_good_order() {
    skip_unless_possible!("a_guest_boots_serves_logs_and_stops_in_good_order");
    let rig = Rig::new();
    let (machines, events) = Machines::open(rig.config()).await.unwrap();
    eprintln!(
        "{:?}, kernel {}",
        machines.report(),
        machines.prepare().await.unwrap()
    );
    let mut events = Events::new(events);
    let facts = "echo $GREETING from $(hostname) in $PWD; cat /etc/resolv.conf /etc/hosts; ip addr; ip route; \
        ip -6 route; mount; echo to stderr >&2; date +%s; \
        trap 'echo asked to end; exit 0' TERM; httpd -f -p 8080 -h /www & wait";
    let spec = rig.spec(1, script(facts), http());
    machines.start(spec.clone()).await.unwrap();
    events.serving().await;
    eprintln!("{:?}", machines.timeline(ID).unwrap());
    assert_eq!(events.seen[0], MachineState::Starting);

    let begin = std::time::Instant::now();
    assert!(get("10.77.0.2:8080", "/").contains("hello from the guest"));
    eprintln!("first answer {} ms after it serves", begin.elapsed().as_millis());
    assert!(get("[fd77::2]:8080", "/").contains("hello from the guest"));
    let log = wait_for_log(&machines, "to stderr").await;
    eprintln!("{log}");
    for line in [
        "good day from tiny in /srv/work",
        "nameserver 10.77.0.1",
        "fd77::2 tiny",
        "inet 10.77.0.2/32",
        "inet6 fd77::2/128",
        "default via 10.77.0.1",
        "default via fe80::1",
        "overlay on / type overlay (rw",
    ] {
        assert!(log.contains(line), "{line:?} is not in the log:\n{log}");
    }
    let clock: u64 = log
        .lines()
        .find_map(|line| line.trim().parse().ok())
        .expect("the guest's time");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(
        now.abs_diff(clock) < 30,
        "the guest's clock is off: {clock}, here it is {now}"
    );

    machines.start(spec.clone()).await.unwrap();
    machines
        .stop(ID, 1, Stop::Graceful { grace_ms: 5_000 })
        .await
        .unwrap();
    assert_eq!(events.ended().await, MachineState::Stopped);
    let starts = events
        .seen
        .iter()
        .filter(|state| **state == MachineState::Starting)
        .count();
    assert_eq!(starts, 1, "asked twice for the same generation, started once");
    let log = log_of(&machines).await;
    assert!(log.contains("asked to end"), "{log}");
    let console = machines.console(ID, None, 4000).await.unwrap();
    eprintln!("console: {}", String::from_utf8_lossy(&console.bytes));
    machines.stop(ID, 1, Stop::Kill).await.unwrap();

    machines.delete(ID, 1).await.unwrap();
    assert!(machines.list().is_empty());
    assert!(matches!(
        machines.logs(ID, None, 10).await,
        Err(vmm::io::machines::LogError::Unknown)
    ));
}

#[tokio::test]
async fn an_entrypoint_that_exits_at_once_fails_with_its_code_and_its_words() {
    skip_unless_possible!("an_entrypoint_that_exits_at_once_fails_with_its_code_and_its_words");
    let rig = Rig::new();
    let (machines, events) = Machines::open(rig.config()).await.unwrap();
    let mut events = Events::new(events);
    let mut spec = rig.spec(1, script("echo no such configuration; exit 3"), http());
    spec.workload.restart.attempts = 1;
    machines.start(spec.clone()).await.unwrap();
    let MachineState::Failed { reason, exit_code } = events.ended().await else {
        panic!("it did not fail")
    };
    assert_eq!(exit_code, Some(3), "{reason}");
    assert!(reason.contains("status 3, after 2 starts"), "{reason}");
    let log = log_of(&machines).await;
    assert_eq!(log.matches("no such configuration").count(), 2, "{log}");
    assert!(log.contains("it is started again"), "{log}");

    // The next generation tries a program that is not there.
    spec.generation = 2;
    spec.workload.entrypoint = vec!["/bin/nothing".to_owned()];
    machines.start(spec.clone()).await.unwrap();
    let MachineState::Failed { reason, exit_code } = events.ended().await else {
        panic!("it did not fail")
    };
    assert_eq!(exit_code, None);
    assert!(reason.contains("/bin/nothing: No such file"), "{reason}");

    // And one that does its work and ends; what it writes stays on its disk.
    spec.generation = 3;
    spec.workload.entrypoint = script("echo kept > /srv/kept; echo done");
    machines.start(spec.clone()).await.unwrap();
    assert_eq!(events.ended().await, MachineState::Stopped);
    spec.generation = 4;
    spec.disk_gib = 2;
    spec.workload.entrypoint = script("echo it is $(cat /srv/kept); df -h /; kill -9 $$");
    machines.start(spec).await.unwrap();
    let MachineState::Failed { exit_code, .. } = events.ended().await else {
        panic!("it did not fail")
    };
    assert_eq!(exit_code, Some(137));
    let log = log_of(&machines).await;
    assert!(log.contains("it is kept"), "{log}");
    assert!(
        log.lines()
            .any(|line| line.starts_with("overlay") && line.contains("1.9G")),
        "{log}"
    );
}

#[tokio::test]
async fn a_lower_generation_is_refused_and_a_higher_one_replaces() {
    skip_unless_possible!("a_lower_generation_is_refused_and_a_higher_one_replaces");
    let rig = Rig::new();
    let (machines, events) = Machines::open(rig.config()).await.unwrap();
    let mut events = Events::new(events);
    machines.start(rig.spec(5, web_server(), http())).await.unwrap();
    let lower = machines.start(rig.spec(4, web_server(), http())).await;
    assert!(
        matches!(lower, Err(StartError::Stale { asked: 4, seen: 5 })),
        "{lower:?}"
    );
    let lower = machines.stop(ID, 4, Stop::Kill).await;
    assert!(
        matches!(lower, Err(StopError::Stale { asked: 4, seen: 5 })),
        "{lower:?}"
    );
    events.serving().await;
    machines
        .start(rig.spec(6, web_server(), Health::Tcp { port: 8080 }))
        .await
        .unwrap();
    events.serving().await;
    assert_eq!(machines.list()[0].generation, 6);
    let stops = events
        .seen
        .iter()
        .filter(|state| **state == MachineState::Stopped)
        .count();
    assert_eq!(stops, 1, "the older one ended first: {:?}", events.seen);

    machines.delete(ID, 7).await.unwrap();
    let late = machines.start(rig.spec(6, web_server(), http())).await;
    assert!(
        matches!(late, Err(StartError::Stale { asked: 6, seen: 7 })),
        "also after it was deleted: {late:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_booted_is_refused_or_fails_in_words() {
    skip_unless_possible!("what_cannot_be_booted_is_refused_or_fails_in_words");
    let rig = Rig::new();
    let (machines, events) = Machines::open(rig.config()).await.unwrap();
    let mut events = Events::new(events);
    let mut spec = rig.spec(1, web_server(), http());
    spec.vcpus = 0;
    assert!(matches!(machines.start(spec).await, Err(StartError::Spec(_))));
    let mut spec = rig.spec(1, web_server(), http());
    spec.image = "/nonexistent.ext4".into();
    assert!(matches!(
        machines.start(spec).await,
        Err(StartError::Image { .. })
    ));
    assert!(matches!(
        Machines::open(rig.config()).await,
        Err(OpenError::InUse(_))
    ));
    assert!(matches!(
        machines.stop(ID, 1, Stop::Kill).await,
        Err(StopError::Unknown)
    ));
    machines.delete(ID, 1).await.unwrap();

    let mut spec = rig.spec(1, web_server(), http());
    spec.nic.tap = "no,such-tap".to_owned();
    // QEMU would make a tap that does not exist; in this name it cannot.
    spec.nic.tap = "lo".to_owned();
    machines.start(spec).await.unwrap();
    let MachineState::Failed { reason, .. } = events.ended().await else {
        panic!("it did not fail")
    };
    assert!(reason.contains("qemu") && reason.contains("tap"), "{reason}");

    let mut spec = rig.spec(1, web_server(), http());
    let broken = std::env::temp_dir().join(format!("form-broken-{}.ext4", std::process::id()));
    std::fs::write(&broken, vec![0; 1 << 20]).unwrap();
    spec.image = broken.clone();
    machines.start(spec).await.unwrap();
    let MachineState::Failed { reason, .. } = events.ended().await else {
        panic!("it did not fail")
    };
    std::fs::remove_file(broken).unwrap();
    assert!(reason.contains("image cannot be mounted"), "{reason}");
}

#[tokio::test]
async fn a_killed_machine_process_takes_its_guest_along_and_is_an_event() {
    skip_unless_possible!("a_killed_machine_process_takes_its_guest_along_and_is_an_event");
    let rig = Rig::new();
    let config = rig.config();
    let (machines, events) = Machines::open(config.clone()).await.unwrap();
    let mut events = Events::new(events);
    machines.start(rig.spec(1, web_server(), http())).await.unwrap();
    events.serving().await;
    let record = std::fs::read_to_string(config.dir.join(ID.short(64)).join("record.json")).unwrap();
    let pid = record
        .split("\"pid\": ")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap();
    let disk = config
        .dir
        .join(ID.short(64))
        .join("disk.ext4")
        .display()
        .to_string();
    assert_eq!(rig::processes_with(&disk), 1, "QEMU runs");
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let MachineState::Failed { reason, .. } = events.ended().await else {
        panic!("it did not fail")
    };
    assert!(reason.contains("process"), "{reason}");
    let begin = std::time::Instant::now();
    while rig::processes_with(&disk) > 0 {
        assert!(begin.elapsed() < rig::LIMIT, "QEMU outlives form-machine");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // A guest that cuts its own power says nothing; the machine has failed all the same.
    let crash = "echo 1 > /proc/sys/kernel/sysrq; sleep 1; echo c > /proc/sysrq-trigger";
    machines
        .start(rig.spec(2, script(crash), Health::Process))
        .await
        .unwrap();
    let MachineState::Failed {
        reason,
        exit_code: None,
    } = events.ended().await
    else {
        panic!("it did not fail")
    };
    assert!(
        reason.contains("went down by itself") && reason.contains("Kernel panic"),
        "{reason}"
    );
}

#[tokio::test]
async fn the_verdict_follows_the_workload_on_two_processors() {
    skip_unless_possible!("the_verdict_follows_the_workload_on_two_processors");
    let rig = Rig::new();
    let (machines, events) = Machines::open(rig.config()).await.unwrap();
    let mut events = Events::new(events);
    let flapping = "grep -c ^processor /proc/cpuinfo; httpd -f -p 8080 -h /www & sleep 4; kill $!; echo down; \
        sleep 8; exec httpd -f -p 8080 -h /www";
    let mut spec = rig.spec(1, script(flapping), http());
    spec.vcpus = 2;
    machines.start(spec).await.unwrap();
    events.serving().await;
    events
        .wait("down", |state| *state == MachineState::Running { serving: false })
        .await;
    events.serving().await;
    assert!(
        log_of(&machines).await.starts_with("2\n"),
        "both processors are up"
    );
    machines.stop(ID, 1, Stop::Kill).await.unwrap();
    assert_eq!(events.ended().await, MachineState::Stopped);
}

#[tokio::test]
async fn a_guest_without_an_entrypoint_idles_in_little_memory() {
    skip_unless_possible!("a_guest_without_an_entrypoint_idles_in_little_memory");
    let rig = Rig::new();
    let (machines, events) = Machines::open(rig.config()).await.unwrap();
    let mut events = Events::new(events);
    let mut spec = rig.spec(1, Vec::new(), Health::Process);
    spec.memory_mib = vmm::check::MEMORY_MIB_MIN;
    machines.start(spec).await.unwrap();
    events.serving().await;
    let begin = std::time::Instant::now();
    machines
        .stop(ID, 1, Stop::Graceful { grace_ms: 60_000 })
        .await
        .unwrap();
    assert_eq!(events.ended().await, MachineState::Stopped);
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "nothing had to be waited for"
    );
}

const DAEMON_FOLDER: &str = "FORM_TEST_DAEMON_FOLDER";

/// Not a test but the daemon of the next one, in a process of its own that can be killed.
#[tokio::test]
#[ignore = "run by a_killed_daemon_finds_its_machine_again_and_the_guest_notices_nothing"]
async fn daemon() {
    let Ok(spec) = std::env::var(DAEMON_FOLDER) else {
        return;
    };
    let (config, spec): (Vec<std::path::PathBuf>, vmm::spec::MachineSpec) =
        serde_json::from_str(&spec).unwrap();
    let [dir, cache_dir, form_machine, form_init] = config.try_into().unwrap();
    let config = vmm::io::machines::MachinesConfig {
        dir,
        cache_dir,
        form_machine,
        form_init,
    };
    let (machines, events) = Machines::open(config).await.unwrap();
    machines.start(spec).await.unwrap();
    Events::new(events).serving().await;
    println!("serving");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_daemon_finds_its_machine_again_and_the_guest_notices_nothing() {
    skip_unless_possible!("a_killed_daemon_finds_its_machine_again_and_the_guest_notices_nothing");
    use std::io::{BufRead, BufReader};
    let rig = Rig::new();
    let config = rig.config();
    let counting = "httpd -p 8080 -h /www; i=0; while true; do i=$((i+1)); echo count $i; sleep 1; done";
    let spec = rig.spec(3, script(counting), http());
    let folders = [
        &config.dir,
        &config.cache_dir,
        &config.form_machine,
        &config.form_init,
    ];
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon", "--ignored", "--nocapture"])
        .env(DAEMON_FOLDER, serde_json::to_string(&(folders, &spec)).unwrap())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains("serving")),
        "the daemon brought its machine up"
    );
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    assert!(
        get("10.77.0.2:8080", "/").contains("hello"),
        "the guest goes on without a daemon"
    );
    let (machines, events) = Machines::open(config).await.unwrap();
    let mut events = Events::new(events);
    let found = machines.list();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id, found[0].generation), (ID, 3));
    assert_eq!(found[0].state, MachineState::Running { serving: true });
    let lower = machines.start(rig.spec(2, web_server(), http())).await;
    assert!(
        matches!(lower, Err(StartError::Stale { asked: 2, seen: 3 })),
        "{lower:?}"
    );
    machines.start(spec).await.unwrap();
    let log = log_of(&machines).await;
    let count = log.matches("count ").count();
    wait_for_log(&machines, &format!("count {}\n", count + 2)).await;
    assert_eq!(
        log_of(&machines).await.matches("count 1\n").count(),
        1,
        "the guest was never restarted"
    );
    machines
        .stop(ID, 3, Stop::Graceful { grace_ms: 100 })
        .await
        .unwrap();
    assert_eq!(events.ended().await, MachineState::Stopped);
}
