//! Compiles `proto/` without protoc: protox parses, tonic's generator writes the Rust, and the
//! descriptors are kept for reflection and for messages as JSON.

use std::path::PathBuf;

/// Everything the built-in peers serve, relative to `proto/`.
const FILES: &[&str] = &[
    "kv.proto",
    "stock.proto",
    "plugin/grpc_broker.proto",
    "plugin/grpc_controller.proto",
    "plugin/grpc_stdio.proto",
    "grpc/health/v1/health.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.lock");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(FILES)?;
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().build_client(false).bytes(".").compile_fds(compiler.file_descriptor_set())?;
    // What the built-in peers are made of: rules are bounded by these versions.
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    for name in ["h2", "hyper", "tonic"] {
        if let Some(version) = locked(&lock, name) {
            println!("cargo::rustc-env=SOUPSCEN_{}_VERSION={version}", name.to_uppercase());
        }
    }
    Ok(())
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split_once('"').map(|(version, _)| version)
}
