//! The words of `form`, as its help tells them: a change shows up in a review, one file a noun.

use clap::{Command, CommandFactory};
use cli::commands::Cli;

/// The help of a command and of all below it.
fn pages(command: &mut Command, path: &str, out: &mut String) {
    out.push_str(&format!("$ {path} --help\n{}\n", command.render_help()));
    let names: Vec<String> = command
        .get_subcommands()
        .map(|it| it.get_name().to_string())
        .collect();
    for name in names.iter().filter(|name| *name != "help") {
        let below = command.find_subcommand_mut(name).expect("it was listed");
        pages(below, &format!("{path} {name}"), out);
    }
}

#[test]
fn the_help_of_every_command_is_as_reviewed() {
    let mut form = Cli::command();
    form.build();
    let nouns: Vec<String> = form
        .get_subcommands()
        .map(|it| it.get_name().to_string())
        .collect();
    for noun in nouns.iter().filter(|noun| *noun != "help") {
        let mut text = String::new();
        let command = form.find_subcommand_mut(noun).expect("it was listed");
        pages(command, &format!("form {noun}"), &mut text);
        insta::assert_snapshot!(format!("help_{noun}"), text);
    }
    insta::assert_snapshot!("help", form.render_help().to_string());
}

#[test]
fn the_tree_of_commands_is_consistent() {
    Cli::command().debug_assert();
}
