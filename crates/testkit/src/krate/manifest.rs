use std::fmt::Write;

use super::{CrateBuilder, Dependency};

/// A value of the `[package]` table.
#[derive(Debug, Clone)]
pub(super) enum Value {
    One(String),
    Many(Vec<String>),
}

/// The text of `Cargo.toml`.
pub(super) fn manifest(krate: &CrateBuilder) -> String {
    let mut toml = format!(
        "[package]\nname = {}\nversion = {}\n",
        quoted(&krate.name),
        quoted(&krate.version)
    );
    for (key, value) in &krate.package {
        let value = match value {
            Value::One(text) => quoted(text),
            Value::Many(texts) => list(texts),
        };
        writeln!(toml, "{key} = {value}").expect("writing to a string cannot fail");
    }
    for dependency in &krate.dependencies {
        toml.push_str(&table(dependency));
    }
    if !krate.features.is_empty() {
        toml.push_str("\n[features]\n");
        for (name, enables) in &krate.features {
            writeln!(toml, "{} = {}", quoted(name), list(enables)).expect("writing to a string cannot fail");
        }
    }
    toml
}

fn table(dependency: &Dependency) -> String {
    let section = match dependency.kind {
        "normal" => "dependencies".to_owned(),
        kind => format!("{kind}-dependencies"),
    };
    let target = dependency.target.as_ref();
    let target = target.map_or_else(String::new, |target| format!("target.{}.", quoted(target)));
    let key = dependency.rename.as_ref().unwrap_or(&dependency.name);
    let mut toml = format!(
        "\n[{target}{section}.{}]\nversion = {}\n",
        quoted(key),
        quoted(&dependency.req)
    );
    if dependency.rename.is_some() {
        toml.push_str(&format!("package = {}\n", quoted(&dependency.name)));
    }
    if dependency.optional {
        toml.push_str("optional = true\n");
    }
    if !dependency.default_features {
        toml.push_str("default-features = false\n");
    }
    if !dependency.features.is_empty() {
        toml.push_str(&format!("features = {}\n", list(&dependency.features)));
    }
    toml
}

/// A JSON string is a TOML basic string too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}
