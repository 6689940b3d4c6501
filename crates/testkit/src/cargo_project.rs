//! A package to build with the real cargo.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;

use crate::{MirrorProcess, command};

const LIMIT: Duration = Duration::from_secs(300);

/// A cargo package in a temporary directory, with a cargo home, a target directory and an environment of its own.
#[derive(Debug)]
pub struct CargoProject {
    dir: TempDir,
    dependencies: String,
    env: Vec<(String, String)>,
    limit: Duration,
}

impl CargoProject {
    /// A package `project` with an empty `main`, and no registry but the default one.
    pub fn new() -> Self {
        let project = Self {
            dir: tempfile::tempdir().expect("the machine has room for a directory"),
            dependencies: String::new(),
            env: Vec::new(),
            limit: LIMIT,
        };
        for dir in [&project.path().join("src"), &project.cargo_home()] {
            fs::create_dir_all(dir).expect("the directory is ours");
        }
        project.write_manifest();
        project.main_rs("fn main() {}\n")
    }

    /// Where its `Cargo.toml` is.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// Its `CARGO_HOME`.
    pub fn cargo_home(&self) -> PathBuf {
        self.dir.path().join("cargo-home")
    }

    /// One more dependency, by a requirement such as `1`.
    pub fn dependency(self, name: &str, req: &str) -> Self {
        self.dependency_toml(name, &format!("\"{req}\""))
    }

    /// One more dependency, by the right side of its line: `{ version = "1", features = ["std"] }`.
    pub fn dependency_toml(mut self, name: &str, toml: &str) -> Self {
        writeln!(self.dependencies, "{name} = {toml}").expect("writing to a string cannot fail");
        self.write_manifest();
        self
    }

    fn write_manifest(&self) {
        let manifest = format!(
            "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n{}\n[workspace]\n",
            self.dependencies
        );
        fs::write(self.path().join("Cargo.toml"), manifest).expect("the directory is ours");
    }

    /// The text of `src/main.rs`.
    pub fn main_rs(self, code: &str) -> Self {
        fs::write(self.path().join("src/main.rs"), code).expect("the directory is ours");
        self
    }

    /// Takes everything of crates.io from a mirror by the sparse protocol. Again after the mirror was started anew: its port is
    /// another one.
    pub fn use_mirror(self, mirror: &MirrorProcess) -> Self {
        self.use_index(&format!("sparse+{}", mirror.url("/index/")))
    }

    /// Takes everything of crates.io from the registry `mirror` with this index, `sparse+http://...` or any other that cargo takes.
    pub fn use_index(self, index: &str) -> Self {
        self.config(&format!(
            "[source.crates-io]\nreplace-with = \"mirror\"\n\n[registries.mirror]\nindex = \"{index}\"\n"
        ))
    }

    /// The whole text of `config.toml` in its cargo home.
    pub fn config(self, toml: &str) -> Self {
        fs::write(self.cargo_home().join("config.toml"), toml).expect("the directory is ours");
        self
    }

    /// A variable for every cargo that follows, such as `CARGO_NET_RETRY`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How long a cargo may take; five minutes without this.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs cargo in the package; `+nightly` may be the first argument where [`toolchains`] has it. Panics if it takes longer
    /// than it may.
    pub fn cargo(&self, args: &[&str]) -> Output {
        let mut cargo = command_with_rust("cargo", self.dir.path());
        cargo
            .args(args)
            .current_dir(self.path())
            .env("CARGO_HOME", self.cargo_home())
            .env("CARGO_TARGET_DIR", self.dir.path().join("target"))
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_INCREMENTAL", "0")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command::run(cargo, self.limit)
    }

    /// The same, and gives what cargo printed on standard output. Panics with everything it said if it failed.
    pub fn cargo_ok(&self, args: &[&str]) -> String {
        let output = self.cargo(args);
        assert!(output.status.success(), "cargo {args:?}: {}", command::said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The text of `Cargo.lock`. Panics if there is none yet.
    pub fn lockfile(&self) -> String {
        fs::read_to_string(self.path().join("Cargo.lock")).expect("a command that writes Cargo.lock was run before")
    }

    /// Deletes all that cargo keeps of registries: the next command asks for everything again.
    pub fn forget_registry(&self) {
        remove(&self.cargo_home().join("registry"));
    }

    /// Deletes what was built.
    pub fn forget_target(&self) {
        remove(&self.dir.path().join("target"));
    }
}

impl Default for CargoProject {
    fn default() -> Self {
        Self::new()
    }
}

fn remove(dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).expect("the directory is ours");
    }
}

/// Whether there is a cargo in `PATH` that runs.
pub fn cargo_available() -> bool {
    let home = tempfile::tempdir().expect("the machine has room for a directory");
    let mut cargo = command_with_rust("cargo", home.path());
    cargo.arg("--version").env("CARGO_HOME", home.path());
    cargo.output().is_ok_and(|output| output.status.success())
}

/// The toolchains that rustup has, by their full names (`nightly-x86_64-unknown-linux-gnu`); none without rustup.
pub fn toolchains() -> Vec<String> {
    let home = tempfile::tempdir().expect("the machine has room for a directory");
    let mut rustup = command_with_rust("rustup", home.path());
    let output = rustup.args(["toolchain", "list"]).output();
    let listed = output.ok().filter(|output| output.status.success());
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let lines = listed.iter().flat_map(|text| text.lines());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.contains('-')).map(str::to_owned).collect()
}

/// rustup's own programs look for the toolchains in the real home, and a toolchain that was chosen for the tests is kept.
fn command_with_rust(program: &str, home: &Path) -> std::process::Command {
    let mut command = command::clean(program, home);
    let in_home = || command::inherited("HOME").map(|home| Path::new(&home).join(".rustup").into_os_string());
    if let Some(dir) = command::inherited("RUSTUP_HOME").or_else(in_home) {
        command.env("RUSTUP_HOME", dir);
    }
    if let Some(toolchain) = command::inherited("RUSTUP_TOOLCHAIN") {
        command.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CrateBuilder, Dependency, FakeUpstream};

    fn three_crates() -> FakeUpstream {
        let upstream = FakeUpstream::start();
        let app = CrateBuilder::new("app-lib", "1.2.0")
            .dep_full(Dependency::new("middle", "^0.3").features(&["loud"]))
            .lib("pub fn word() -> &'static str { middle::word() }");
        let middle = CrateBuilder::new("middle", "0.3.1+meta")
            .dep_full(Dependency::new("z", "1").rename("last").optional())
            .feature("loud", &["dep:last"])
            .lib("pub fn word() -> &'static str { #[cfg(feature = \"loud\")] { last::WORD } #[cfg(not(feature = \"loud\"))] { \"quiet\" } }");
        let last = CrateBuilder::new("z", "1.0.0")
            .links("zz")
            .rust_version("1.60")
            .lib("pub const WORD: &str = \"hello\";");
        for krate in [app, middle, last] {
            upstream.add(&krate.build());
        }
        upstream.add(&CrateBuilder::new("z", "1.0.1").lib("compile_error!{}").yanked().build());
        upstream
    }

    #[test]
    fn a_real_cargo_builds_from_a_fake_upstream() {
        let upstream = three_crates();
        let project = CargoProject::new()
            .dependency("app-lib", "1")
            .main_rs("fn main() { println!(\"{}\", app_lib::word()); }")
            .use_index(&upstream.sparse_url());
        assert_eq!(project.cargo_ok(&["run", "-q"]), "hello\n");
        assert!(
            project
                .lockfile()
                .contains("name = \"middle\"\nversion = \"0.3.1+meta\"")
        );
        assert_eq!(upstream.count("/index/config.json"), 1);
        assert_eq!(upstream.count(&FakeUpstream::download_path("z", "1.0.0")), 1);

        project.forget_registry();
        project.forget_target();
        upstream.clear_log();
        upstream.set_dl("/files/{prefix}/{lowerprefix}/{crate}-{version}-{sha256-checksum}.crate");
        upstream.require_token(Some("secret"));
        let refused = project.cargo(&["fetch", "--locked"]);
        assert!(!refused.status.success());
        upstream.require_token(None);
        project.cargo_ok(&["fetch", "--locked"]);
        let files = upstream
            .requests()
            .into_iter()
            .filter(|request| request.path.starts_with("/files/"));
        assert_eq!(files.count(), 3);
    }

    #[test]
    fn the_cargo_that_runs_the_tests_is_there_and_the_toolchains_that_are_named_run() {
        assert!(cargo_available());
        let nightly = toolchains().into_iter().find(|name| name.starts_with("nightly-"));
        if let Some(nightly) = nightly {
            let version = CargoProject::new().cargo_ok(&[&format!("+{nightly}"), "--version"]);
            assert!(version.contains("nightly"), "{version}");
        }
    }
}
