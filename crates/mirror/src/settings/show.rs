use std::fmt::Write;

use super::Settings;
use super::key::{self, KEYS};

/// All settings in force as a `mirror.toml`, each with its source behind it; a secret is replaced by dots.
pub fn show(settings: &Settings) -> String {
    let mut out = String::new();
    let mut section = "";
    for key in KEYS {
        let (own_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if own_section != section {
            section = own_section;
            let _ = writeln!(out, "\n[{section}]");
        }
        let given = settings.layers.get(key.name);
        let text = key::shown(key.name, &given.text);
        let value = toml::Value::String(text);
        let assignment = format!("{name} = {value}");
        let _ = writeln!(out, "{assignment:<44} # {}", given.source);
    }
    out
}
