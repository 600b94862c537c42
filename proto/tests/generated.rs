//! Keeps `src/generated.rs` true to `proto/skyflight.proto`: nobody needs `protoc` to build, and the
//! checked-in code cannot drift from the messages it stands for. The same for what reflection tells of Flight.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

const HEADER: &str = "//! The messages of `proto/skyflight.proto` as Rust types.\n//!\n\
//! Made by `SKYFLIGHT_REGENERATE=1 cargo test -p skyflight-proto --test generated`; edits are lost.\n";

fn generate() -> String {
    let folder = Path::new("proto");
    let files = protox::Compiler::new([&folder])
        .unwrap()
        .include_source_info(true)
        .include_imports(true)
        .open_file("skyflight.proto")
        .unwrap()
        .file_descriptor_set();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .out_dir(out.path())
        .bytes(["."])
        // A ticket that can be redeemed must not be printed by accident; see signature.rs.
        .skip_debug([".skyflight.v1.SignedTicket"])
        .compile_fds(files)
        .unwrap();
    let code = std::fs::read_to_string(out.path().join("skyflight.v1.rs")).unwrap();
    format!("{HEADER}{code}")
}

/// `proto/flight.proto` as gRPC reflection wants it.
fn describe_flight() -> Vec<u8> {
    let mut compiler = protox::Compiler::new([Path::new("proto")]).unwrap();
    compiler.include_source_info(false).include_imports(true).open_file("flight.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the switch of a developer's tool, not configuration")]
fn the_description_of_flight_is_what_the_proto_file_says() {
    let path = Path::new("src/flight_descriptor.bin");
    let fresh = describe_flight();
    if std::env::var_os("SKYFLIGHT_REGENERATE").is_some() {
        std::fs::write(path, &fresh).unwrap();
        return;
    }
    assert!(!fresh.is_empty());
    assert!(
        std::fs::read(path).unwrap() == fresh,
        "src/flight_descriptor.bin differs from proto/flight.proto; run \
         SKYFLIGHT_REGENERATE=1 cargo test -p skyflight-proto --test generated"
    );
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the switch of a developer's tool, not configuration")]
fn generated_code_is_what_the_proto_file_says() {
    let path = Path::new("src/generated.rs");
    let fresh = generate();
    if std::env::var_os("SKYFLIGHT_REGENERATE").is_some() {
        std::fs::write(path, &fresh).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(path).unwrap();
    if kept != fresh {
        let line = kept.lines().zip(fresh.lines()).take_while(|(kept, fresh)| kept == fresh).count() + 1;
        panic!(
            "src/generated.rs differs from proto/skyflight.proto from line {line} on; run \
             SKYFLIGHT_REGENERATE=1 cargo test -p skyflight-proto --test generated"
        );
    }
}
