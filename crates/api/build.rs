//! Compiles the contracts without protoc: protox parses them, tonic-prost-build writes the Rust.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_reflect::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The encoding is protox's own: decoding it through prost would drop the scope option, and
    // tonic's own writer is not asked to, since it would leave out the comments that reflection shows.
    fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    fs::write(out.join("methods.rs"), methods(compiler.descriptor_pool())?)?;

    tonic_prost_build::configure()
        .btree_map(".")
        // These carry a password or a session, which a derived Debug would print.
        .skip_debug([
            "octroi.licensing.v1.ActivateLicenseRequest",
            "octroi.licensing.v1.ChangePasswordRequest",
            "octroi.licensing.v1.SignInRequest",
            "octroi.licensing.v1.SignInResponse",
            "octroi.licensing.v1.ChangeOwnPasswordRequest",
        ])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// Writes the table of methods and their options, so that serving needs no descriptor at run time and a method without a
/// scope does not build.
fn methods(pool: prost_reflect::DescriptorPool) -> Result<String, Box<dyn Error>> {
    let scope = pool
        .get_extension_by_name("octroi.auth.v1.scope")
        .ok_or("octroi.auth.v1.scope is not declared")?;
    let lasting = pool
        .get_extension_by_name("octroi.type.v1.lasting")
        .ok_or("octroi.type.v1.lasting is not declared")?;
    let mut rows = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            let options = method.options();
            let value = options.get_extension(&scope).into_owned();
            let Value::String(value) = value else {
                return Err("octroi.auth.v1.scope is not a string".into());
            };
            if value.is_empty() {
                return Err(format!("{} declares no scope", method.full_name()).into());
            }
            let lasting = *options.get_extension(&lasting) == Value::Bool(true);
            let path = format!("/{}/{}", service.full_name(), method.name());
            rows.push((path, value, lasting));
        }
    }
    rows.sort();
    let mut source = format!("&[Method; {}]", rows.len());
    source =
        format!("/// Every declared method, ordered by path.\npub static METHODS: {source} = &[\n");
    for (path, scope, lasting) in rows {
        writeln!(
            source,
            "    Method {{ path: {path:?}, scope: {scope:?}, lasting: {lasting} }},"
        )?;
    }
    source.push_str("];\n");
    Ok(source)
}
