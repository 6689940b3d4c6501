use std::collections::BTreeMap;

use registry::Checksum;
use serde_json::{Map, Value, json};

use super::{CrateBuilder, Dependency, manifest};

/// The line as crates.io writes it: features that only a newer cargo reads are in `features2`, with `"v":2`.
pub(super) fn index_line(krate: &CrateBuilder, checksum: Checksum) -> String {
    let newer = |enables: &[String]| {
        enables
            .iter()
            .any(|item| item.starts_with("dep:") || item.contains("?/"))
    };
    let (features2, features): (BTreeMap<_, _>, BTreeMap<_, _>) =
        krate.features.iter().partition(|(_, enables)| newer(enables));
    let mut line = Map::new();
    line.insert("name".to_owned(), json!(krate.name));
    line.insert("vers".to_owned(), json!(krate.version));
    line.insert(
        "deps".to_owned(),
        krate.dependencies.iter().map(dependency).collect::<Value>(),
    );
    line.insert("cksum".to_owned(), json!(checksum.to_hex()));
    line.insert("features".to_owned(), json!(features));
    if !features2.is_empty() {
        line.insert("features2".to_owned(), json!(features2));
        line.insert("v".to_owned(), json!(2));
    }
    line.insert("yanked".to_owned(), json!(krate.yanked));
    for (key, in_line) in [("links", "links"), ("rust-version", "rust_version")] {
        if let Some(manifest::Value::One(text)) = krate.package.get(key) {
            line.insert(in_line.to_owned(), json!(text));
        }
    }
    Value::Object(line).to_string()
}

fn dependency(dependency: &Dependency) -> Value {
    let mut json = json!({
        "name": dependency.rename.as_ref().unwrap_or(&dependency.name),
        "req": dependency.req,
        "features": dependency.features,
        "optional": dependency.optional,
        "default_features": dependency.default_features,
        "target": dependency.target,
        "kind": dependency.kind,
    });
    if dependency.rename.is_some() {
        json["package"] = json!(dependency.name);
    }
    json
}
