//! The documents name only what exists: commands that parse, flags, variables, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};
use slicewatch::commands::Cli;
use slicewatch::commands::options::Options;

use super::root;

const DOCUMENTS: [&str; 7] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench/README.md",
    "dashboards/METRICS.md",
    "src/ARCHITECTURE.md",
];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("a document of the repository")
}

/// The commands of a document's console blocks, one a line, continued lines joined.
fn commands(markdown: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            inside = line.trim() == "```console";
            continued = false;
        } else if inside && (continued || line.starts_with("$ ")) {
            let text = line.strip_prefix("$ ").unwrap_or(line).trim();
            let (text, more) = match text.strip_suffix('\\') {
                Some(text) => (text.trim(), true),
                None => (text, false),
            };
            match found.last_mut().filter(|_| continued) {
                Some(last) => {
                    last.push(' ');
                    last.push_str(text);
                }
                None => found.push(text.to_owned()),
            }
            continued = more;
        }
    }
    found
}

/// The arguments of a command if it runs slicewatch: environment, pipes and comments taken off.
fn slicewatch_arguments(command: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = command
        .split_whitespace()
        .take_while(|word| !["|", ">", "&", "&&", ";"].contains(word) && !word.starts_with('#'))
        .skip_while(|word| *word == "sudo" || word.contains('='))
        .collect();
    let (program, rest) = words.split_first()?;
    if *program == "slicewatch" || program.ends_with("/slicewatch") {
        return Some(rest.to_vec());
    }
    if *program == "cargo" && rest.first() == Some(&"run") {
        let dashes = rest.iter().position(|word| *word == "--");
        return Some(dashes.map_or(Vec::new(), |at| rest[at + 1..].to_vec()));
    }
    None
}

/// What clap says against a command, if anything.
fn refused(arguments: &[&str]) -> Option<String> {
    let words = std::iter::once("slicewatch").chain(arguments.iter().copied());
    match Cli::try_parse_from(words) {
        Err(error) if error.use_stderr() => Some(error.to_string()),
        _ => None,
    }
}

/// All flags and variables that some subcommand has.
fn known_words() -> BTreeSet<String> {
    let mut known: BTreeSet<String> = ["--help", "--version"].map(String::from).into();
    let cli = Cli::command();
    for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
        for argument in command.get_arguments() {
            known.extend(argument.get_long().map(|long| format!("--{long}")));
            known.extend(
                argument
                    .get_env()
                    .map(|name| name.to_string_lossy().into_owned()),
            );
        }
    }
    known
}

/// Flags at the start of inline code, and SLICEWATCH_ variables anywhere, that nothing has.
fn unknown_words(markdown: &str) -> Vec<String> {
    let known = known_words();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let code = markdown.split('`').skip(1).step_by(2);
    let flags = code
        .filter(|code| code.starts_with("--"))
        .map(|code| code.split(|c| !is_part(c)).next().unwrap_or_default());
    let variables = markdown
        .split(|c| !is_part(c) || c == '.')
        .filter(|word| word.starts_with("SLICEWATCH_") && *word != "SLICEWATCH_");
    flags
        .chain(variables)
        .filter(|word| !known.contains(*word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_commands_of_the_readme_are_understood() {
    let readme = read("README.md");
    let all = commands(&readme);
    let ours: Vec<_> = all
        .iter()
        .filter_map(|command| slicewatch_arguments(command))
        .collect();
    assert!(ours.len() >= 4, "only {ours:?} among {all:?}");
    for arguments in ours {
        assert_eq!(refused(&arguments), None, "{arguments:?}");
    }
    assert_eq!(unknown_words(&readme), Vec::<String>::new());
    assert!(all.iter().any(|command| command == "cargo test"), "{all:?}");
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let sample = "```console\n$ slicewatch demo \\\n    --no-such-flag 1   # why\n$ cargo run -- report\n$ ls --all\n```\n```sh\n$ slicewatch nothing\n```\n";
    let all = commands(sample);
    assert_eq!(all.len(), 3, "{all:?}");
    let ours: Vec<_> = all
        .iter()
        .filter_map(|command| slicewatch_arguments(command))
        .collect();
    assert_eq!(ours, [vec!["demo", "--no-such-flag", "1"], vec!["report"]]);
    assert!(ours.iter().all(|arguments| refused(arguments).is_some()));
    assert!(refused(&["demo", "--speed", "0"]).is_some());
    assert_eq!(refused(&["--help"]), None);
    assert_eq!(
        unknown_words("`--listen` and `--lisen ADDRESS`, SLICEWATCH_LISTEN, SLICEWATCH_LISEN=1"),
        ["--lisen", "SLICEWATCH_LISEN"]
    );
}

/// Targets of a document's links that are files.
fn links(markdown: &str) -> Vec<&str> {
    markdown
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .map(|target| target.split('#').next().unwrap_or(target))
        .collect()
}

#[test]
fn links_lead_to_files() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = Path::new(document).parent().expect("a folder");
        for target in links(&text) {
            let path = root().join(folder).join(target);
            assert!(path.exists(), "{document} links to {target}");
        }
    }
    assert_eq!(
        links("[a](b/c.md#d) [e](https://f) [g](#h)"),
        ["b/c.md"],
        "what a link is"
    );
}

/// A file of settings with the settings that are commented out in it.
fn uncommented(text: &str) -> String {
    let is_key = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Keys that the agent knows and a file of settings lacks.
fn missing_keys(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().expect("TOML");
    let cli = Cli::command();
    let agent = cli.find_subcommand("agent").expect("the agent");
    let keys = agent
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .filter_map(|argument| argument.get_long());
    keys.map(|key| key.replace('.', "-"))
        .filter(|key| !["config", "help", "version"].contains(&&**key) && !table.contains_key(key))
        .collect()
}

#[test]
fn the_example_has_every_setting_and_is_accepted() {
    let path = root().join("deploy/slicewatch.example.toml");
    let settings = Options::from_file(&path)
        .expect("every key is known")
        .settle()
        .expect("every value is in its range");
    let default = Options::default().settle().expect("the defaults");
    assert_eq!(
        format!("{settings:?}"),
        format!("{default:?}"),
        "what is not commented out has its default"
    );
    let text = uncommented(&read("deploy/slicewatch.example.toml"));
    toml::from_str::<Options>(&text)
        .expect("every key is known")
        .settle()
        .expect("every value is in its range");
    assert_eq!(missing_keys(&text), Vec::<String>::new());
    let less = text.replace("drain-period =", "# the drain-period =");
    assert_eq!(missing_keys(&uncommented(&less)), ["drain-period"]);
}

#[test]
fn every_setting_has_a_variable_named_after_it() {
    let cli = Cli::command();
    let agent = cli.find_subcommand("agent").expect("the agent");
    for argument in agent.get_arguments() {
        let Some(long) = argument.get_long().filter(|long| *long != "help") else {
            continue;
        };
        let name = format!(
            "SLICEWATCH_{}",
            long.replace(['-', '.'], "_").to_uppercase()
        );
        let env = argument.get_env().map(|env| env.to_string_lossy());
        assert_eq!(env.as_deref(), Some(&*name), "--{long}");
    }
}
