//! What the house promises and the source can show: its arrows, its files, its documents. Each
//! check is a function over text, tried on a bad sample first and then on the real thing.
#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking too")]

mod documents;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{Code, arrows, code_of, forbidden_macros, has_unsafe};

const FLOORS: [&str; 4] = ["collect", "analyse", "publish", "simulate"];
const MAX_LINES: usize = 500;

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, as paths from the repository's root with their text.
fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).expect("a text file");
                let path = path.strip_prefix(root()).expect("below the root");
                found.push((path.to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, Code)> {
    let sources: Vec<_> = files("src", "rs")
        .into_iter()
        .map(|(path, text)| (path, code_of(&text)))
        .collect();
    assert!(sources.len() > 50, "only {} files", sources.len());
    sources
}

/// Whether code of a module may name another module of the crate.
fn may_name(from: &str, to: &str) -> bool {
    let known = FLOORS.contains(&to) || ["commands", "model"].contains(&to);
    match from {
        "model" => to == "model" || !known,
        floor if FLOORS.contains(&floor) => to == floor || to == "model" || !known,
        _ => true,
    }
}

/// The arrows of one file that go where they must not.
fn wrong_arrows(path: &Path, code: &Code) -> Vec<String> {
    let parts: Vec<String> = path
        .with_extension("")
        .iter()
        .skip(1)
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    arrows(code, parts.len())
        .into_iter()
        .filter(|to| !may_name(&parts[0], to))
        .map(|to| format!("{}: names crate::{to}", path.display()))
        .collect()
}

#[test]
fn the_floors_do_not_import_one_another() {
    let wrong: Vec<String> = sources()
        .iter()
        .flat_map(|(path, code)| wrong_arrows(path, code))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_wrong_arrow_is_found_in_every_form_it_can_take() {
    for (path, text) in [
        ("src/collect/host.rs", "use crate::analyse::ledger::Ledger;"),
        (
            "src/analyse.rs",
            "use crate::{model::Bytes, publish::http};",
        ),
        (
            "src/publish/http.rs",
            "fn f() { crate::collect::nvml::start() }",
        ),
        ("src/simulate.rs", "pub use crate :: commands::agent;"),
        ("src/model/ids.rs", "use crate::{\n    collect,\n};"),
        ("src/collect/host.rs", "use super::super::analyse::grants;"),
        ("src/model.rs", "use super::publish;"),
        (
            "src/analyse/ledger.rs",
            "const QUOTE: char = '\"'; use crate::collect::clock; const OTHER: char = '\"';",
        ),
    ] {
        let wrong = wrong_arrows(Path::new(path), &code_of(text));
        assert_eq!(wrong.len(), 1, "{path}: {text}: {wrong:?}");
    }
    for (path, text) in [
        (
            "src/collect/host.rs",
            "// use crate::analyse;\nuse crate::model::Bytes;",
        ),
        (
            "src/collect/host.rs",
            "/* crate::publish */ use crate::collect::clock;",
        ),
        ("src/analyse.rs", "const WORDS: &str = \"crate::publish\";"),
        (
            "src/commands/demo.rs",
            "use crate::{collect, publish, simulate};",
        ),
        ("src/collect/nvml/gpu.rs", "use super::super::host;"),
    ] {
        let wrong = wrong_arrows(Path::new(path), &code_of(text));
        assert!(wrong.is_empty(), "{path}: {text}: {wrong:?}");
    }
}

/// Whether a file may hold `unsafe`.
fn may_be_unsafe(path: &Path) -> bool {
    ["src/collect/nvml/raw", "src/collect/canary/raw"]
        .iter()
        .any(|raw| path == Path::new(&format!("{raw}.rs")) || path.starts_with(raw))
}

#[test]
fn unsafe_code_stands_in_the_raw_binding_only() {
    let found: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|(_, code)| has_unsafe(code))
        .map(|(path, _)| path)
        .collect();
    assert!(
        found.iter().all(|path| may_be_unsafe(path)),
        "unsafe in {found:?}"
    );
    assert!(
        found.iter().any(|path| may_be_unsafe(path)),
        "the check finds nothing even where unsafe is"
    );
    assert!(has_unsafe(&code_of("fn f() { unsafe { g() } }")));
    assert!(!has_unsafe(&code_of(
        "// unsafe\nlet unsafe_code = \"unsafe {\";"
    )));
    assert!(!may_be_unsafe(Path::new("src/collect/nvml/rawer.rs")));
}

#[test]
fn nothing_is_left_to_do() {
    let found: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|(_, code)| forbidden_macros(code))
        .map(|(path, _)| path)
        .collect();
    assert!(found.is_empty(), "{found:?}");
    for bad in ["todo!()", "unimplemented! (\"later\")", "std::todo!{}"] {
        assert!(forbidden_macros(&code_of(bad)), "{bad}");
    }
    assert!(!forbidden_macros(&code_of("// todo!()\nlet todo = 1;")));
}

/// What is wrong with the shape of one file.
fn misshapen(path: &Path, lines: usize) -> Option<String> {
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        return Some(format!(
            "{}: write foo.rs beside foo/, not mod.rs",
            path.display()
        ));
    }
    let limited = path.starts_with("src") && lines > MAX_LINES;
    limited.then(|| format!("{}: {lines} lines, over {MAX_LINES}", path.display()))
}

#[test]
fn files_are_short_and_named_after_their_module() {
    let mut all = files("src", "rs");
    all.extend(files("tests/it", "rs"));
    let wrong: Vec<String> = all
        .iter()
        .filter_map(|(path, text)| misshapen(path, text.lines().count()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(misshapen(Path::new("src/model/mod.rs"), 1).is_some());
    assert!(misshapen(Path::new("src/model.rs"), MAX_LINES + 1).is_some());
    assert!(misshapen(Path::new("src/model.rs"), MAX_LINES).is_none());
}
