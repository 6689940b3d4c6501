//! What is said about bundles on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::naming::{Named, pin_name, triple};
use crate::settings::parse_size;

/// What of the index goes into a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexScope {
    /// All index files that are here
    Full,
    /// Those of the chosen crates
    Selected,
}

/// What `mirror export` takes.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The bundle to write; it must not be there yet
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    /// What is named; all that is kept if nothing is.
    #[command(flatten)]
    pub named: Named,
    /// The files of a set made by `mirror pin`; may be repeated
    #[arg(long, value_name = "NAME", value_parser = pin_name)]
    pub pinned: Vec<String>,
    /// Dependencies too of what is named: normal and build ones, with the features that are asked for
    #[arg(long)]
    pub with_deps: bool,
    /// With --with-deps: optional dependencies of what is named too (all of its features)
    #[arg(long, requires = "with_deps")]
    pub optional: bool,
    /// With --with-deps: dev-dependencies of what is named too
    #[arg(long, requires = "with_deps")]
    pub dev: bool,
    /// With --with-deps: only what this target may need; may be repeated [default: all]
    #[arg(long, requires = "with_deps", value_name = "TRIPLE", value_parser = triple)]
    pub target: Vec<String>,
    /// Only what is new since a bundle (its file or its id) or since a receipt that came back
    #[arg(long, value_name = "BUNDLE|RECEIPT")]
    pub since: Option<String>,
    /// What of the index goes along [default: full; with something named: selected]
    #[arg(long, value_name = "WHAT")]
    pub index: Option<IndexScope>,
    /// Write parts FILE.001, FILE.002… of at most this size, such as 4GiB for a stick with FAT32
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub split: Option<u64>,
    /// Only say what would be written
    #[arg(long)]
    pub dry_run: bool,
    /// Write the bundle even if some of what is named cannot be had
    #[arg(long)]
    pub allow_missing: bool,
    /// Do not sign it
    #[arg(long)]
    pub unsigned: bool,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
}

/// What `mirror import` takes.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("something").args(["files", "receipt"]).required(true).multiple(true)))]
pub struct ImportArgs {
    /// Bundles, parts of bundles, .crate files, folders with such, or a folder made by `cargo vendor`
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Trust this key from now on, if it is the one that signed: RW… or a file with it
    #[arg(long, value_name = "KEY", requires = "files")]
    pub trust: Option<String>,
    /// Take a bundle that is older than what was imported last
    #[arg(long, requires = "files")]
    pub allow_rollback: bool,
    /// Take a bundle that nobody signed, as long as no key is trusted here
    #[arg(long, requires = "files")]
    pub allow_unsigned: bool,
    /// Only say what would change
    #[arg(long, requires = "files", conflicts_with = "check")]
    pub dry_run: bool,
    /// Only say whether the files are whole and unchanged; needs no data directory
    #[arg(long, requires = "files", conflicts_with = "receipt")]
    pub check: bool,
    /// Where the receipt goes [default: beside the bundle]; without bundles: write the newest one
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make the key that this mirror signs bundles with
    #[command(after_help = "Example: mirror keys new")]
    New {
        /// Make another one in place of the one that is there: every office has to trust it anew
        #[arg(long)]
        replace: bool,
    },
    /// Trust a key: bundles that it signed are taken, and unsigned ones are not any more
    #[command(after_help = "Example: mirror keys trust outside.pub")]
    Trust {
        /// RW… or a file with it
        key: String,
    },
    /// Show the own key and those that are trusted
    #[command(after_help = "Example: mirror keys list")]
    List,
}
