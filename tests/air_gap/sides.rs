//! A mirror outside, a stick, and a mirror in the office.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;
use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, FakeUpstream, GitUpstream, MirrorBuilder, MirrorProcess, git_ok, misnamed,
    said, text_of,
};

/// Index files upstream that nobody builds with.
pub const FILLERS: usize = 20;

pub fn builder() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// Standard output of a command that ended well.
pub fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    text_of(output).0
}

/// All that a command said that refused.
pub fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    let (out, err) = text_of(output);
    assert!(!err.contains("panicked"), "{err}");
    out + &err
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The index files of a mirror as git lists them: modes, blobs and paths, without what each mirror makes for itself.
pub fn index_of(data_dir: &Path) -> String {
    let repository = data_dir.join("index.git");
    let listed = git_ok(&repository, &["ls-tree", "-r", "refs/heads/master"]);
    let own = |line: &&str| !line.ends_with("\tconfig.json") && !line.ends_with("\tREADME.md");
    listed.lines().filter(own).map(|line| format!("{line}\n")).collect()
}

/// What upstream has, the mirror that follows it, and the stick that it writes to.
pub struct Outside {
    pub files: FakeUpstream,
    pub git: GitUpstream,
    pub mirror: MirrorProcess,
    stick: TempDir,
}

impl Outside {
    /// With these crates upstream, of which nothing is fetched yet.
    pub fn with(crates: &[BuiltCrate]) -> Self {
        let (files, git) = (FakeUpstream::start(), GitUpstream::start());
        crates.iter().for_each(|krate| files.add(krate));
        git.commit_index(&format!("{}/dl", files.base_url()), crates, FILLERS);
        let mirror = builder()
            .upstream_git(&git)
            .own_port()
            // rounds begin when a command asks for one
            .env("MIRROR_INDEX__SYNC_INTERVAL", "24h")
            .start();
        ok(&mirror.run(&["sync"]));
        Self {
            files,
            git,
            mirror,
            stick: tempfile::tempdir().unwrap(),
        }
    }

    /// Upstream publishes, and the mirror hears of it.
    pub fn publish(&self, crates: &[BuiltCrate]) {
        crates.iter().for_each(|krate| self.files.add(krate));
        self.follow(&crates.iter().map(|krate| &*krate.name).collect::<Vec<_>>());
    }

    /// Upstream's git comes to what its files are for these crates, and the mirror to that.
    pub fn follow(&self, names: &[&str]) {
        let names: BTreeSet<&str> = names.iter().copied().collect();
        let files: Vec<(String, Option<String>)> = names
            .into_iter()
            .map(|name| {
                let path = FakeUpstream::index_path(name)
                    .strip_prefix("/index/")
                    .unwrap()
                    .to_owned();
                let bytes = self.files.index_file(&path);
                (path, bytes.map(|bytes| String::from_utf8(bytes).unwrap()))
            })
            .collect();
        let files: Vec<_> = files.iter().map(|(path, text)| (&**path, text.as_deref())).collect();
        self.git.commit(&files);
        ok(&self.mirror.run(&["sync"]));
    }

    /// Fetches these.
    pub fn keep(&self, crates: &[BuiltCrate]) {
        let specs = crates.iter().map(|krate| format!("{}@={}", krate.name, krate.version));
        let specs: Vec<String> = specs.collect();
        let flags = specs.iter().flat_map(|spec| ["--crate", spec]);
        ok(&self
            .mirror
            .run(&["prefetch"].into_iter().chain(flags).collect::<Vec<_>>()));
    }

    /// A place on the stick.
    pub fn on_stick(&self, name: &str) -> PathBuf {
        self.stick.path().join(name)
    }

    /// Writes everything that is kept, or what is said, to the stick.
    pub fn export(&self, name: &str, args: &[&str]) -> PathBuf {
        let path = self.on_stick(name);
        ok(&self.mirror.run(&[&["export", "-o", text(&path)], args].concat()));
        path
    }

    /// What came after `parent`.
    pub fn export_since(&self, name: &str, parent: &Path) -> PathBuf {
        self.export(name, &["--since", text(parent)])
    }

    /// Its public key, as an admin would read it out.
    pub fn key(&self) -> String {
        key_of(&self.mirror.data_dir())
    }
}

pub fn key_of(data_dir: &Path) -> String {
    let text = std::fs::read_to_string(data_dir.join("keys/mirror.pub")).unwrap();
    text.lines().find(|line| line.starts_with("RW")).unwrap().to_owned()
}

/// A mirror that was never online.
pub fn office() -> MirrorProcess {
    office_builder().start()
}

pub fn office_builder() -> MirrorBuilder {
    builder().own_port().arg("--offline").env("MIRROR_MODE", "offline")
}

/// What people in the office can see of their mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    refs: String,
    index: String,
    crate_files: BTreeSet<PathBuf>,
    sparse: Vec<(u16, String)>,
}

impl Visible {
    /// The published index files, whatever commit they are in.
    pub fn index_files(&self) -> &str {
        &self.index
    }
}

/// With the index files of these crates as they are served; the judges are git and `sha256sum`.
pub fn visible(office: &MirrorProcess, crates: &[BuiltCrate]) -> Visible {
    let files = office.kept_files();
    assert_eq!(misnamed(&files).unwrap_or_default(), Vec::<String>::new());
    Visible {
        refs: git_ok(&office.data_dir(), &["ls-remote", &office.url("/git/index")]),
        index: index_of(&office.data_dir()),
        crate_files: files.into_iter().collect(),
        sparse: crates
            .iter()
            .map(|krate| {
                let reply = office.get(&format!("/index/{}", krate.index_path()));
                (reply.status, reply.text())
            })
            .collect(),
    }
}

/// The log of imports, which nothing is ever taken out of.
#[derive(Default)]
pub struct Log(pub String);

impl Log {
    /// What was added since the last look.
    pub fn grown(&mut self, office: &MirrorProcess) -> Vec<serde_json::Value> {
        let now = ok(&office.run(&["imports", "--json"]));
        let new = now.strip_prefix(self.0.as_str());
        let new = new.unwrap_or_else(|| panic!("a log that only grows had\n{}and has\n{now}", self.0));
        let rows = new.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        self.0 = now;
        rows
    }
}

/// The office has exactly what is outside: the index as git lists it, and each of these crates, byte by byte.
pub fn same_as_outside(outside: &MirrorProcess, office: &MirrorProcess, crates: &[BuiltCrate]) {
    assert_eq!(index_of(&office.data_dir()), index_of(&outside.data_dir()));
    has_all(office, crates);
}

pub fn has_all(office: &MirrorProcess, crates: &[BuiltCrate]) {
    for krate in crates {
        let reply = office.get(&format!("/api/v1/crates/{}/{}/download", krate.name, krate.version));
        assert_eq!(reply.status, 200, "{} {}: {}", krate.name, krate.version, reply.text());
        assert!(
            reply.body == krate.bytes,
            "{} {} has other bytes",
            krate.name,
            krate.version
        );
    }
}

/// `lib`, and `app` that says `words` and what `lib` says.
pub fn app_and_lib(version: &str, words: &str) -> Vec<BuiltCrate> {
    let lib = format!("pub fn word() -> &'static str {{ \"{words}\" }}");
    let app = "pub fn words() -> String { format!(\"{} by app\", lib::word()) }";
    vec![
        CrateBuilder::new("lib", version).lib(&lib).build(),
        CrateBuilder::new("app", version).dep("lib", "^1").lib(app).build(),
    ]
}

/// A project on `app` that prints what it says.
pub fn project() -> CargoProject {
    CargoProject::new()
        .dependency("app", "1")
        .main_rs("fn main() { println!(\"{}\", app::words()); }")
}

/// The two ways to a mirror's index.
pub fn both_ways(mirror: &MirrorProcess) -> [String; 2] {
    [format!("sparse+{}", mirror.url("/index/")), mirror.url("/git/index")]
}

/// Builds with an empty `CARGO_HOME` and without a lockfile, by both protocols.
pub fn builds(office: &MirrorProcess, says: &str) {
    for index in both_ways(office) {
        let said = project().use_index(&index).cargo_ok(&["run", "-q"]);
        assert_eq!(said, format!("{says} by app\n"), "{index}");
    }
}

/// What `mirror check` says of a lockfile.
pub fn check(mirror: &MirrorProcess, lockfile: &Path) -> serde_json::Value {
    let output = mirror.run(&["check", "--json", "--lockfile", text(lockfile)]);
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let ready = told["ready"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!ready)), "{}", said(&output));
    told
}
