//! How crate files are named on the command line.

use std::path::PathBuf;

use clap::Args;
use selection::{CrateSpec, Target};

/// Crate files by lockfile, name or list.
#[derive(Debug, Args)]
pub struct Named {
    /// All that a Cargo.lock names; may be repeated
    #[arg(long, value_name = "Cargo.lock")]
    pub lockfile: Vec<PathBuf>,
    /// The newest version of a crate, or the newest that fits; may be repeated
    #[arg(long = "crate", value_name = "NAME[@REQ]")]
    pub krate: Vec<CrateSpec>,
    /// A file with NAME, NAME@REQ, NAME VERSION or NAME = "REQ" on each line
    #[arg(long, value_name = "FILE")]
    pub list: Vec<PathBuf>,
}

impl Named {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.lockfile.is_empty() && self.krate.is_empty() && self.list.is_empty()
    }
}

/// What `mirror prefetch` takes.
#[derive(Debug, Args)]
pub struct PrefetchArgs {
    /// What is named.
    #[command(flatten)]
    pub named: Named,
    /// The newest version of every crate of which a file is kept
    #[arg(long)]
    pub latest: bool,
    /// All of upstream: hundreds of gigabytes, for crates.io
    #[arg(long, requires = "contact", conflicts_with_all = ["lockfile", "krate", "list", "latest", "with_deps"])]
    pub all: bool,
    /// With --all: how upstream reaches you, such as a mail address; it is sent as part of the User-Agent
    #[arg(long, requires = "all", value_name = "MAIL", value_parser = contact)]
    pub contact: Option<String>,
    /// Their dependencies too, and those of these: normal and build ones, with the features that are asked for
    #[arg(long)]
    pub with_deps: bool,
    /// With --with-deps: optional dependencies of what is named too (all of its features)
    #[arg(long, requires = "with_deps")]
    pub optional: bool,
    /// With --with-deps: dev-dependencies of what is named too
    #[arg(long, requires = "with_deps")]
    pub dev: bool,
    /// With --with-deps: only what this target may need; may be repeated, and should name the building machine too [default: all]
    #[arg(long, requires = "with_deps", value_name = "TRIPLE", value_parser = triple)]
    pub target: Vec<String>,
    /// Only say how many files and bytes there would be to fetch
    #[arg(long)]
    pub dry_run: bool,
}

/// What a user agent may say, and somebody could use.
fn contact(text: &str) -> Result<String, String> {
    let fits = text.len() <= 200
        && text
            .bytes()
            .all(|byte| (b'!'..=b'~').contains(&byte) && !b"()\\".contains(&byte))
        && (text.contains('@') || text.starts_with("https://") || text.starts_with("http://"));
    fits.then(|| text.to_owned())
        .ok_or_else(|| "it should be a mail address or an http address".to_owned())
}

/// A target that is known.
pub fn triple(text: &str) -> Result<String, String> {
    match text.parse::<Target>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a set of crate files may be called.
pub fn pin_name(text: &str) -> Result<String, String> {
    let fits = (1..=100).contains(&text.len()) && text.trim() == text && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| "it should have 1 to 100 bytes, without control characters and blanks around it".to_owned())
}
