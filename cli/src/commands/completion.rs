//! `form completion`: the script that lets a shell complete `form`'s words.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::commands::Cli;
use crate::exit::Failure;
use crate::invocation::Invocation;

/// A completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example: form completion bash > /etc/bash_completion.d/form")]
pub struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionArgs {
    /// Prints it.
    pub fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "form", &mut script);
        invocation.output.bytes(&script)
    }
}
