//! What the rig is asked for: its command line, read and checked.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Printed by `--help`.
pub(crate) const USAGE: &str = "\
usage: rig [run] [OPTIONS] -- COMMAND [ARGUMENT]...
       rig prepare    fetch and unpack the kernel, say which it is
COMMAND runs as root in a small Linux with /dev/kvm. If it is a file of this host with a slash in its name,
it is copied to the same path, with its libraries.
  --mem MIB            memory (2048)
  --smp N              processors (1)
  --modules A,B:P=1    load kernel modules, with parameters after colons; again for more
  --with PATH:DEST     copy a file or folder of this host; programs bring their libraries; again for more
  --get PATH:DEST      copy a file or folder back to this host afterwards; again for more
  --env NAME=VALUE     set a variable for COMMAND; again for more
  --timeout SECONDS    end it after this time (300)
  --icount             clocks count instructions, so that timings do not depend on how busy this host is
Exit status: COMMAND's; 124 it did not end in time; 125 the rig itself failed; 126, 127 it cannot be run.
";

const MEMORY_MIB_MIN: u32 = 192;
const MEMORY_MIB_MAX: u32 = 65536;
const PROCESSORS_MAX: u32 = 16;
const LIMIT_S_MAX: u32 = 86400;

/// Disks are `/dev/vda` to `/dev/vdh`.
const GET_MAX: usize = 8;

/// A file or folder on one side, and its place on the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// Where it is.
    pub(crate) from: String,
    /// Where it goes.
    pub(crate) to: String,
}

/// A command to run, and the machine for it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) memory_mib: u32,
    pub(crate) processors: u32,
    /// Each a name, perhaps with `:parameter=value` behind it.
    pub(crate) modules: Vec<String>,
    pub(crate) with: Vec<Copy>,
    pub(crate) get: Vec<Copy>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) limit: Duration,
    pub(crate) counts_instructions: bool,
    /// At least the program's name. One that is a file of this host is absolute.
    pub(crate) command: Vec<String>,
    /// The program, if it is a file of this host.
    pub(crate) program: Option<PathBuf>,
}

/// What the rig shall do.
#[derive(Debug)]
pub(crate) enum Request {
    Help,
    Prepare,
    Run(Run),
}

/// Reads the command line, without the program's own name.
pub(crate) fn parse(words: Vec<String>) -> Result<Request> {
    let mut words = words.into_iter().peekable();
    match words.peek().map(String::as_str) {
        None | Some("help" | "-h" | "--help") => return Ok(Request::Help),
        Some("prepare") => {
            ensure!(words.len() == 1, "`prepare` takes nothing more");
            return Ok(Request::Prepare);
        }
        Some("run") => drop(words.next()),
        Some(_) => {}
    }
    let mut run = Run {
        memory_mib: 2048,
        processors: 1,
        modules: Vec::new(),
        with: Vec::new(),
        get: Vec::new(),
        environment: Vec::new(),
        limit: Duration::from_secs(300),
        counts_instructions: false,
        command: Vec::new(),
        program: None,
    };
    while let Some(option) = words.next() {
        let mut value = || words.next().with_context(|| format!("{option} wants a value"));
        match option.as_str() {
            "--" => {
                run.command = words.by_ref().collect();
                break;
            }
            "--help" => return Ok(Request::Help),
            "--mem" => run.memory_mib = number(&option, &value()?, MEMORY_MIB_MIN, MEMORY_MIB_MAX)?,
            "--smp" => run.processors = number(&option, &value()?, 1, PROCESSORS_MAX)?,
            "--timeout" => run.limit = Duration::from_secs(number(&option, &value()?, 1, LIMIT_S_MAX)?.into()),
            "--modules" => {
                run.modules.extend(value()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
            }
            "--with" => run.with.push(copy(&option, &value()?)?),
            "--get" => run.get.push(copy(&option, &value()?)?),
            "--env" => run.environment.push(variable(&value()?)?),
            "--icount" => run.counts_instructions = true,
            _ => bail!("there is no option {option}; a command stands behind `--`; see --help"),
        }
    }
    ensure!(run.get.len() <= GET_MAX, "--get can be given {GET_MAX} times; more files fit into one folder");
    for place in run.with.iter().map(|copy| &copy.to).chain(run.get.iter().map(|copy| &copy.from)) {
        ensure!(
            place.starts_with('/') && !place.split('/').any(|part| part == ".."),
            "`{place}` in the rig must be absolute and without `..`"
        );
    }
    let name = run.command.first_mut().context("there is no command; it stands behind `--`")?;
    if name.contains('/') && std::path::Path::new(name).is_file() {
        let path = std::path::absolute(&*name).with_context(|| format!("finding {name}"))?;
        *name = path.to_string_lossy().into_owned();
        run.program = Some(path);
    }
    Ok(Request::Run(run))
}

fn number(option: &str, text: &str, min: u32, max: u32) -> Result<u32> {
    let fits = text.parse().ok().filter(|number| (min..=max).contains(number));
    fits.with_context(|| format!("{option} wants a number from {min} to {max}, not `{text}`"))
}

/// The last colon divides, so that a source may contain one.
fn copy(option: &str, text: &str) -> Result<Copy> {
    match text.rsplit_once(':') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            Ok(Copy { from: from.to_owned(), to: to.to_owned() })
        }
        _ => bail!("{option} wants PATH:DEST, not `{text}`"),
    }
}

fn variable(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').with_context(|| format!("--env wants NAME=VALUE, not `{text}`"))?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    ensure!(plain && begins, "--env: `{name}` is no name of a variable");
    Ok((name.to_owned(), value.to_owned()))
}
