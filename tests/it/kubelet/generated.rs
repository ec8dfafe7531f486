//! The checked-in code is what the `.proto` file says, made without protoc.

use std::fs;
use std::path::{Path, PathBuf};

/// Compares `fresh` with the checked-in file, or writes it where `UPDATE_GENERATED` is set.
fn same_as_checked_in(fresh: &str, checked_in: PathBuf) {
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&checked_in, fresh).unwrap();
    }
    let there = fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        there == fresh,
        "{} is not what podresources.proto gives: run \
         `UPDATE_GENERATED=1 cargo test --test it kubelet::generated`",
        checked_in.display()
    );
}

fn generate(
    configure: impl FnOnce(tonic_prost_build::Builder) -> tonic_prost_build::Builder,
) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("src/collect/kubelet");
    let descriptors = protox::compile([folder.join("podresources.proto")], [&folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let builder = tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .build_transport(false)
        .out_dir(out.path());
    configure(builder).compile_fds(descriptors).unwrap();
    fs::read_to_string(out.path().join("v1.rs")).unwrap()
}

#[test]
fn client_code_is_what_the_proto_gives() {
    let fresh = generate(|builder| builder.build_server(false));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    same_as_checked_in(&fresh, root.join("src/collect/kubelet/generated.rs"));
}

#[test]
fn server_code_of_the_fake_is_what_the_proto_gives() {
    let fresh = generate(|builder| {
        builder
            .build_client(false)
            .extern_path(".v1", "::slicewatch::collect::kubelet::proto")
    });
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    same_as_checked_in(&fresh, root.join("tests/fakes/kubelet/generated.rs"));
}
