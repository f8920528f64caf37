//! What goes on while a person waits: a spinner on a terminal, one plain line for each step elsewhere, so
//! that logs of scripts stay readable. All of it goes to standard error; `--quiet` and JSON get none.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{Output, clean, clean_text, size, span};

const TICK_MS: u64 = 100;

/// The steps of one long command.
pub struct Progress {
    output: Output,
    began: Instant,
    spinner: Option<ProgressBar>,
    /// The last text shown, so that plain lines do not repeat themselves.
    shown: String,
    silent: bool,
}

impl Progress {
    /// Begins to count the time.
    pub fn new(output: Output) -> Self {
        let silent = output.is_quiet() || output.is_json();
        let spinner = (!silent && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            let style = match output.is_coloured() {
                true => "{spinner:.cyan} {msg} {elapsed:.dim}",
                false => "{spinner} {msg} {elapsed}",
            };
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(TICK_MS));
            bar
        });
        Self {
            output,
            began: Instant::now(),
            spinner,
            shown: String::new(),
            silent,
        }
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Says what goes on now.
    pub fn now(&mut self, text: &str) {
        let text = clean(text);
        if self.silent || self.shown == text {
            return;
        }
        match &self.spinner {
            Some(spinner) => spinner.set_message(text.clone()),
            None => self.output.note(&format!("{text} ...")),
        }
        self.shown = text;
    }

    /// Says what goes on now, with a counter of its bytes on a terminal.
    pub fn bytes(&mut self, text: &str, total: u64) -> impl Fn(u64) + Send + Sync + 'static {
        self.now(&format!("{text}, {}", size(total)));
        let spinner = self.spinner.clone();
        let text = clean(text);
        move |sent| {
            if let Some(spinner) = &spinner {
                spinner.set_message(format!("{text}, {} of {}", size(sent), size(total)));
            }
        }
    }

    /// Says what is done, and how long after the start.
    pub fn done(&mut self, text: &str) {
        if self.silent {
            return;
        }
        let line = format!("{} ({})", clean(text), span(self.elapsed_ms()));
        match &self.spinner {
            Some(spinner) => spinner.println(line),
            None => self.output.note(&line),
        }
    }

    /// Lines from elsewhere, such as a log, without breaking the spinner. Says whether anybody sees them.
    pub fn remark(&mut self, text: &str) -> bool {
        if self.silent {
            return false;
        }
        match &self.spinner {
            Some(spinner) => spinner.println(clean_text(text)),
            None => self.output.note(&clean_text(text)),
        }
        true
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
