//! The command line: what there is to say, and nothing of what it does.

mod bundles;
mod naming;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::Mode;

pub use bundles::{ExportArgs, ImportArgs, IndexScope, KeysCommand};
pub use naming::{Named, PrefetchArgs};

/// One binary that stands in for crates.io.
#[derive(Debug, Parser)]
#[command(name = "mirror", version, about, max_term_width = 100)]
#[command(after_help = "Example: mirror serve        then paste what http://127.0.0.1:8080/config.toml gives")]
pub struct Cli {
    /// Settings that every command takes.
    #[command(flatten)]
    pub flags: Flags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that override the settings file and the environment.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// Settings file [default: MIRROR_CONFIG, ./mirror.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept [default: mirror-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// What clients reach the mirror by, such as https://mirror.example
    #[arg(long, global = true, value_name = "URL")]
    pub public_url: Option<String>,
    /// The mode at the start: online, fallback or offline
    #[arg(long = "mode", id = "start_mode", global = true, value_name = "MODE")]
    pub mode: Option<String>,
    /// Never ask upstream: short for --mode offline
    #[arg(long, global = true)]
    pub offline: bool,
    /// The registry behind this one: crates.io, sparse+https://…/, or empty for none
    #[arg(long, global = true, value_name = "REGISTRY")]
    pub upstream_sparse: Option<String>,
    /// The git repository of upstream's index: crates.io, an http(s) address, or empty for none
    #[arg(long, global = true, value_name = "REPOSITORY")]
    pub upstream_git: Option<String>,
    /// When the whole index is followed: when-wanted, always or never
    #[arg(long, global = true, value_name = "WHEN")]
    pub follow: Option<String>,
    /// How much is kept of crate files, such as 20GB: least recently used ones go first [default: no limit]
    #[arg(long, global = true, value_name = "SIZE")]
    pub cache_max_size: Option<String>,
    /// What is logged, such as info or mirror=debug
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

impl Flags {
    /// Flags that contradict each other; clap does not see it when they stand on both sides of the command.
    pub fn contradiction(&self) -> Option<&'static str> {
        let other_mode = self.mode.as_deref().is_some_and(|mode| mode != "offline");
        (self.offline && other_mode).then_some("--offline cannot be used with another --mode")
    }

    /// As (key, flag, text), for the settings.
    pub fn given(&self) -> Vec<(&'static str, &'static str, String)> {
        let plain = [
            ("data_dir", "--data-dir", &self.data_dir),
            ("listen", "--listen", &self.listen),
            ("public_url", "--public-url", &self.public_url),
            ("mode", "--mode", &self.mode),
            ("upstream.sparse", "--upstream-sparse", &self.upstream_sparse),
            ("upstream.git", "--upstream-git", &self.upstream_git),
            ("index.follow", "--follow", &self.follow),
            ("cache.max_size", "--cache-max-size", &self.cache_max_size),
            ("log", "--log", &self.log),
        ];
        let mut given: Vec<_> = plain
            .into_iter()
            .filter_map(|(key, flag, text)| Some((key, flag, text.clone()?)))
            .collect();
        if self.offline {
            given.push(("mode", "--offline", "offline".to_owned()));
        }
        given
    }
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the mirror: index, crate files, pages
    #[command(after_help = "Example: mirror serve --listen 0.0.0.0:8080 --public-url http://mirror.office:8080")]
    Serve,
    /// Bring the whole index up to date once, from upstream's git repository
    #[command(after_help = "Example: mirror sync")]
    Sync,
    /// Hash all that is kept again, and name what is bad or missing
    #[command(after_help = "Example: mirror verify --repair")]
    Verify {
        /// Fetch again what is bad or missing
        #[arg(long)]
        repair: bool,
        /// Instead: name every index file in which the published index differs from the upstream commit it names
        #[arg(long, conflicts_with = "repair")]
        against_upstream: bool,
    },
    /// Shrink what is kept to cache.max_size now: what was not used for the longest time goes first
    #[command(after_help = "Example: mirror prune")]
    Prune,
    /// Show the settings in force, or what clients need
    #[command(
        subcommand,
        after_help = "Example: mirror config client > ~/.cargo/config.toml    (if there is none yet)"
    )]
    Config(ConfigCommand),
    /// Report what an administrator or a bug report needs: upstream, proxy, TLS, disk, versions
    #[command(after_help = "Example: mirror doctor")]
    Doctor,
    /// Exit with 0 if the server on this machine is ready
    #[command(after_help = "Example: HEALTHCHECK CMD [\"mirror\", \"healthcheck\"]")]
    Healthcheck,
    /// Show the mode of the running server, or switch it until its next start
    #[command(after_help = "Example: mirror mode offline")]
    Mode {
        /// The mode to switch to
        mode: Option<Mode>,
    },
    /// Search the crates that are kept here
    #[command(after_help = "Example: mirror search json --limit 5")]
    Search {
        /// Words to look for
        #[arg(required = true)]
        query: Vec<String>,
        /// At most so many results
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        /// As JSON, in the shape of crates.io's API
        #[arg(long)]
        json: bool,
    },
    /// Ask upstream for a crate's index file now
    #[command(after_help = "Example: mirror refresh serde")]
    Refresh {
        /// The crate
        name: String,
    },
    /// List what upstream removed or changed, what was decided about it, and what can be
    #[command(after_help = "Example: mirror removed")]
    Removed {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Go on serving what upstream removed, or with the checksum that it changed
    #[command(after_help = "Example: mirror keep serde@1.0.0")]
    Keep {
        /// The crate, with @VERSION for one version
        what: String,
    },
    /// Take upstream's word: a changed checksum, a removal that is held, an end of what was kept
    #[command(after_help = "Example: mirror accept serde@1.0.0")]
    Accept {
        /// The crate, with @VERSION for one version
        what: String,
    },
    /// Say which clients fetched a crate, or one version of it, if `cache.fetch_log_days` has that logged
    #[command(after_help = "Example: mirror who serde@1.0.0")]
    Who {
        /// The crate, with @VERSION for one version
        what: String,
    },
    /// Fetch crate files ahead of need; without any flag those that could not be fetched before
    #[command(
        after_help = "Example: mirror prefetch --lockfile Cargo.lock --crate ripgrep --crate 'serde@^1.0.200' --with-deps"
    )]
    Prefetch(PrefetchArgs),
    /// Say whether what a lockfile names would build with upstream gone; exits with 1 if not
    #[command(after_help = "Example: mirror check --lockfile Cargo.lock --json")]
    Check {
        /// The lockfile; may be repeated
        #[arg(long, required = true, value_name = "Cargo.lock")]
        lockfile: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep a named set of crate files, whatever the budget of the cache; in place of what the name stood for before
    #[command(after_help = "Example: mirror pin office --lockfile Cargo.lock --crate 'serde@^1'")]
    #[command(group(clap::ArgGroup::new("what").args(["lockfile", "krate", "list"]).required(true).multiple(true)))]
    Pin {
        /// What the set is called
        #[arg(value_parser = naming::pin_name)]
        name: String,
        /// What is in it
        #[command(flatten)]
        named: Named,
    },
    /// Let a named set go: its crate files become like all others
    #[command(after_help = "Example: mirror unpin office")]
    Unpin {
        /// What the set is called
        #[arg(value_parser = naming::pin_name)]
        name: String,
    },
    /// List the named sets of crate files that are kept whatever the budget
    #[command(after_help = "Example: mirror pins")]
    Pins,
    /// Write what is kept, or what is named, into a bundle for a mirror without internet
    #[command(
        after_help = "Example: mirror export -o /media/stick/week-47.tar --since /media/stick/week-46.tar.receipt"
    )]
    Export(ExportArgs),
    /// Take in bundles, .crate files or a folder made by `cargo vendor`, with the server running or not
    #[command(after_help = "Example: mirror import /media/stick/week-47.tar")]
    Import(ImportArgs),
    /// Make, trust and list the keys that bundles are signed with
    #[command(subcommand, after_help = "Example: mirror keys list")]
    Keys(KeysCommand),
    /// List what clients asked for in vain while offline, as a file for `mirror export --list`
    #[command(after_help = "Example: mirror wanted -o wanted.txt")]
    Wanted {
        /// Write the list here instead of showing it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Empty the list after that
        #[arg(long)]
        clear: bool,
    },
    /// List what was imported and what was refused, the oldest first
    #[command(after_help = "Example: mirror imports --json")]
    Imports {
        /// As JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Forget the kept files of a crate, or of one version of it
    #[command(after_help = "Example: mirror evict serde@1.0.0")]
    Evict {
        /// The crate, with @VERSION for one version
        what: String,
    },
}

/// What to show.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// The .cargo/config.toml that uses this mirror
    #[command(after_help = "Example: mirror config client --public-url http://mirror.office:8080")]
    Client {
        /// For an index over git
        #[arg(long)]
        git: bool,
        /// For cargo before 1.68, which knows an index over git only
        #[arg(long, conflicts_with = "git")]
        old: bool,
    },
    /// Every setting in force, and where it came from
    #[command(after_help = "Example: MIRROR_LOG=debug mirror config show")]
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn is_consistent_and_every_command_has_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example: "), "{} has no example", sub.get_name());
        }
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::parse_from(["mirror", "serve", "--offline", "--listen", "127.0.0.1:0"]);
        assert_eq!(
            cli.flags.given(),
            [
                ("listen", "--listen", "127.0.0.1:0".to_owned()),
                ("mode", "--offline", "offline".to_owned())
            ]
        );
        assert!(matches!(
            Cli::parse_from(["mirror", "mode", "offline"]).command,
            Command::Mode {
                mode: Some(Mode::Offline)
            }
        ));
    }
}
