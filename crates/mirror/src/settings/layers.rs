use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{FileFormat, Source as _, Value, ValueKind};

use super::SettingsError;
use super::environment::Environment;
use super::key::{self, KEYS};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A settings file.
    File(PathBuf),
    /// An environment variable: one of ours, or one that the platform sets.
    Variable(String),
    /// A flag on the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "the environment's {name}"),
            Self::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

/// A value as it was written, with its source.
#[derive(Debug, Clone)]
pub struct Given {
    /// The text. Lists are joined with commas.
    pub text: String,
    /// Who said so.
    pub source: Source,
}

/// All values in force, as text: defaults, then the file, then the environment, then flags.
#[derive(Debug, Clone)]
pub struct Layers(BTreeMap<&'static str, Given>);

impl Layers {
    /// Lays the layers over one another.
    pub fn collect(
        file: Option<&Path>,
        environment: &Environment,
        flags: &[(&'static str, &'static str, String)],
    ) -> Result<Self, SettingsError> {
        let defaults = KEYS.iter().map(|key| {
            (
                key.name,
                Given {
                    text: key.default.to_owned(),
                    source: Source::Default,
                },
            )
        });
        let mut layers = Self(defaults.collect());
        layers.lay_platform(environment);
        if let Some(path) = chosen_file(file, environment)? {
            layers.lay_file(&path)?;
        }
        layers.lay_variables(environment)?;
        for (key, flag, text) in flags {
            layers.set(key, text.clone(), Source::Flag(flag));
        }
        if let Some(filter) = environment.get("RUST_LOG") {
            layers.set("log", filter.to_owned(), Source::Variable("RUST_LOG".to_owned()));
        }
        Ok(layers)
    }

    /// The value of a key that is in the table.
    pub fn get(&self, name: &str) -> &Given {
        self.0.get(name).expect("every key has at least its default")
    }

    fn set(&mut self, name: &'static str, text: String, source: Source) {
        self.0.insert(name, Given { text, source });
    }

    /// What platforms say in variables of their own: weaker than anything that was meant for us.
    fn lay_platform(&mut self, environment: &Environment) {
        let variable = |name: &str| {
            environment
                .get(name)
                .map(|value| (value.to_owned(), Source::Variable(name.into())))
        };
        if let Some((dir, source)) = variable("STATE_DIRECTORY") {
            // systemd may name several, with colons between
            let first = dir.split(':').next().unwrap_or_default().to_owned();
            self.set("data_dir", first, source);
        }
        if let Some((port, source)) = variable("PORT") {
            self.set("listen", format!("[::]:{port}"), source);
        }
        for (name, template) in [
            ("RENDER_EXTERNAL_URL", "{}"),
            ("RAILWAY_PUBLIC_DOMAIN", "https://{}"),
            ("FLY_APP_NAME", "https://{}.fly.dev"),
            ("HEROKU_APP_DEFAULT_DOMAIN_NAME", "https://{}"),
        ] {
            if let Some((value, source)) = variable(name) {
                self.set("public_url", template.replace("{}", &value), source);
                break;
            }
        }
    }

    fn lay_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let unreadable = |why: String| SettingsError::File {
            path: path.to_owned(),
            why,
        };
        let table = config::File::from(path)
            .format(FileFormat::Toml)
            .collect()
            .map_err(|cause| unreadable(in_one_line(&cause.to_string())))?;
        let mut flat = Vec::new();
        flatten(String::new(), table.into_iter().collect(), &mut flat);
        for (name, value) in flat {
            let source = Source::File(path.to_owned());
            let Some(key) = key::find(&name) else {
                return Err(SettingsError::UnknownKey {
                    nearest: key::nearest(&name),
                    name,
                    given_by: source,
                });
            };
            let text = text_of(value).ok_or_else(|| unreadable(format!("`{}` is not a plain value", key.name)))?;
            self.set(key.name, text, source);
        }
        Ok(())
    }

    fn lay_variables(&mut self, environment: &Environment) -> Result<(), SettingsError> {
        for (variable, text) in environment.with_prefix("MIRROR_") {
            if variable == "MIRROR_CONFIG" || is_service_link(variable, text) {
                continue;
            }
            let source = Source::Variable(variable.to_owned());
            let Some(key) = KEYS.iter().find(|key| key.variable() == variable) else {
                let name = variable.trim_start_matches("MIRROR_").replace("__", ".").to_lowercase();
                return Err(SettingsError::UnknownKey {
                    nearest: key::nearest(&name),
                    name,
                    given_by: source,
                });
            };
            self.set(key.name, text.to_owned(), source);
        }
        Ok(())
    }
}

/// Kubernetes tells every container of a service named `mirror` in variables that look like ours.
fn is_service_link(variable: &str, text: &str) -> bool {
    variable.starts_with("MIRROR_SERVICE_")
        || variable.starts_with("MIRROR_PORT") && (text.starts_with("tcp://") || variable.contains("_TCP"))
}

/// The settings file: `--config`, else `MIRROR_CONFIG`, else one of the usual places if it is there.
fn chosen_file(flag: Option<&Path>, environment: &Environment) -> Result<Option<PathBuf>, SettingsError> {
    let named = flag
        .map(PathBuf::from)
        .or_else(|| environment.get("MIRROR_CONFIG").map(PathBuf::from));
    if let Some(path) = named {
        let found = path.is_file();
        return if found {
            Ok(Some(path))
        } else {
            Err(SettingsError::File {
                path,
                why: "there is no such file".into(),
            })
        };
    }
    let usual = [
        Some(PathBuf::from("mirror.toml")),
        environment
            .get("CONFIGURATION_DIRECTORY")
            .map(|dir| Path::new(dir).join("mirror.toml")),
    ];
    Ok(usual.into_iter().flatten().find(|path| path.is_file()))
}

/// Without the drawing of the place that the TOML reader makes: line and column say where it is.
fn in_one_line(message: &str) -> String {
    let drawing = |line: &&str| {
        line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit())
            .starts_with('|')
    };
    let said: Vec<&str> = message.lines().filter(|line| !drawing(line)).map(str::trim).collect();
    said.join(": ")
}

fn flatten(prefix: String, table: Vec<(String, Value)>, out: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let name = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        match value.kind {
            ValueKind::Table(inner) => flatten(name, inner.into_iter().collect(), out),
            _ => out.push((name, value)),
        }
    }
}

fn text_of(value: Value) -> Option<String> {
    match value.kind {
        ValueKind::Table(_) | ValueKind::Nil => None,
        ValueKind::Array(values) => {
            let texts: Option<Vec<String>> = values.into_iter().map(text_of).collect();
            Some(texts?.join(","))
        }
        _ => value.into_string().ok(),
    }
}
