//! The files of deploy/, used as its README says.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of deploy/.
#[must_use]
pub fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

/// The statements in deploy/README.md that insert prices and tax rates.
#[must_use]
pub fn documented_catalogue() -> String {
    let document = std::fs::read_to_string(deployed("README.md")).unwrap();
    let (_, statements) = document.split_once("```sql\n").unwrap();
    statements.split("```").next().unwrap().to_owned()
}

/// Whether this machine's OpenSSL can sign with Ed25519, as the scripts need; in CI it must.
#[must_use]
pub fn openssl_signs() -> bool {
    let version = Command::new("openssl").arg("version").output();
    let there = version.is_ok_and(|output| output.stdout.starts_with(b"OpenSSL 3"));
    assert!(
        there || std::env::var_os("CI").is_none(),
        "OpenSSL 3 is missing"
    );
    there
}

/// Runs a script of deploy/, which must succeed, and returns its output.
#[must_use]
pub fn script(name: &str, arguments: &[&str]) -> String {
    let output = Command::new("bash")
        .arg(deployed(name))
        .args(arguments)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "deploy/{name}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}
