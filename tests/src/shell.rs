//! Runs programs and says what they printed when they fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs a program to its end; its standard output, or an error with all that it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    text_of(&output, &format!("{program} {}", arguments.join(" ")))
}

/// The standard output of a program that ended well, or an error with all that it printed.
pub fn text_of(output: &Output, what: &str) -> Result<String> {
    if !output.status.success() {
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!("`{what}` ended with {}:\n{err}{out}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks again and again until `check` gives a value, at most for `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match check() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() > limit {
            let error = last.unwrap_or_else(|| anyhow::anyhow!("it did not happen"));
            return Err(error.context(format!("waiting {} s for {what}", limit.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The folder of the built programs: `FORM_BIN`, or the one that this program is in.
pub fn programs() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("FORM_BIN") {
        return Ok(PathBuf::from(folder));
    }
    let mut folder = std::env::current_exe().context("finding this program's own path")?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    Ok(folder)
}

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in a folder of the project")
}

/// Whether this process may make namespaces, taps and file systems. A test that may not says so by name.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
