//! Any text at all: bombs, large ones, and properties.

use proptest::prelude::*;

use super::*;

/// Each is a megabyte or grows to more, and each is over in a moment.
#[test]
fn bombs_and_large_texts_are_refused_quickly() {
    let laughs: String = (1..10)
        .map(|n| {
            format!(
                "a{n}: &a{n} [{}]\n",
                vec![format!("*a{}", n - 1); 9].join(", ")
            )
        })
        .collect();
    let chain: String = (1..20_000)
        .map(|n| format!("a{n}: &a{n} [*a{}]\n", n - 1))
        .collect();
    let merges = format!("e: &e {{}}\nm:\n{}", "  <<: *e\n".repeat(90_000));
    let start = std::time::Instant::now();
    for (text, code) in [
        (format!("a0: &a0 x\n{laughs}"), "yaml_bomb"),
        (format!("a0: &a0 x\n{chain}"), "yaml_bomb"),
        (merges, "yaml_bomb"),
        ("[".repeat(MAX_BYTES), "yaml_bomb"),
        ("- ".repeat(MAX_BYTES / 2), "yaml_bomb"),
        ("- a\n".repeat(MAX_BYTES / 4), "yaml_bomb"),
        ("---\n".repeat(MAX_BYTES / 4), "documents_ignored"),
        ("a: &a [*a]\n".into(), "not_yaml"),
        ("a".repeat(MAX_BYTES + 1), "too_large"),
        ("a".repeat(MAX_BYTES), "wrong_type"),
        ("\t".repeat(MAX_BYTES), "tab_in_indentation"),
        ("\n".repeat(MAX_BYTES), "empty_configuration"),
        (
            format!("x: {}\n", "\"\\u00e9".repeat(MAX_BYTES / 8)),
            "not_yaml",
        ),
        (
            wrapped(&format!("\n{}\nb: [", "# é\n".repeat(MAX_BYTES / 12))),
            "not_yaml",
        ),
    ] {
        let lint = file(&text);
        let codes: Vec<_> = lint.all().map(|finding| finding.code).collect();
        assert!(codes.contains(&code), "{} {codes:?}", &text[..20]);
    }
    let keys: String = (0..20_000).map(|n| format!("  k{n}: 'x: 1'\n")).collect();
    let many = file(&format!("apiVersion: v1\nkind: ConfigMap\ndata:\n{keys}"));
    assert_eq!(many.configurations.len(), 256);
    assert!(
        many.findings
            .iter()
            .any(|one| one.code == "too_many_configurations")
    );
    let noise: String = (0..1000).map(|n| format!("k{n}: 1\n")).collect();
    assert_eq!(file(&noise).all().count(), 201);
    assert_eq!(file(&noise).all().last().unwrap().code, "too_many_findings");
    // Seconds are for a debug build on a busy machine.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

fn any_text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "version: v1",
        "flags:",
        "sharing:",
        "timeSlicing:",
        "mps:",
        "resources:",
        "- name: gpu",
        "replicas: 4",
        "devices: ",
        "[",
        "]",
        "{",
        "}",
        "|",
        ">-",
        "\n",
        "\r\n",
        "\r",
        "  ",
        "    ",
        "\t",
        "'",
        "\"",
        "é",
        "\u{feff}",
        "---\n",
        "&a ",
        "*a",
        "<<: ",
        "? ",
        ": ",
        "- ",
        "#",
        "!!str ",
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  any: |\n    ",
        "kind: ConfigMap",
        "data:",
        "0",
        "\u{2028}",
        "%",
        ",",
    ]);
    let pieces = prop::collection::vec(word.prop_map(str::to_owned), 0..200)
        .prop_map(|words| words.concat());
    prop_oneof![pieces, "(?s).{0,400}", "[ -~\n]{0,2000}"]
}

proptest! {
    /// Whatever the text, it ends, and every finding stands within the text.
    #[test]
    fn any_text_is_linted(text in any_text()) {
        let breaks = text.matches(['\n', '\r']).count();
        for input in [Input::File, Input::Key("any")] {
            for finding in lint(&text, input).all() {
                prop_assert!(finding.line >= 1 && finding.line as usize <= breaks + 1);
                prop_assert!(finding.column >= 1);
                prop_assert!(finding.column as usize <= text.chars().count() + 1);
            }
        }
    }

    /// A good configuration under a key, cut or with one character changed, is linted too.
    #[test]
    fn a_config_map_with_one_fault_is_linted(at in 0..ANY.len(), other in any::<char>(), cut: bool) {
        prop_assume!(ANY.is_char_boundary(at));
        let mut text = ANY[..at].to_owned();
        if !cut {
            text.push(other);
            text.extend(ANY[at..].chars().skip(1));
        }
        let _ = file(&text).worst();
    }

    /// A place in a block of a ConfigMap is the same place moved by the block's lines and indent.
    #[test]
    fn replicas_are_found_wherever_the_block_stands(
        blank in 0..4_usize, indent in 3..12_usize, above in 0..5_usize, windows: bool,
    ) {
        let inner = GOOD.replace("replicas: 4", "replicas: 1");
        let pad = " ".repeat(indent);
        let lines: String = inner.lines().map(|line| format!("{pad}{line}\n")).collect();
        let mut text = format!(
            "{}apiVersion: v1\nkind: ConfigMap\ndata:\n  any: |\n{}{lines}",
            "# above\n".repeat(above), "\n".repeat(blank),
        );
        if windows {
            text = text.replace('\n', "\r\n");
        }
        let line = u32::try_from(above + 4 + blank + 9).unwrap();
        let column = u32::try_from(indent + 17).unwrap();
        let path = "data.any.sharing.timeSlicing.resources[0].replicas";
        let lint = file(&text);
        prop_assert_eq!(found(&lint), [("too_few_replicas", line, column, path)]);
    }
}
