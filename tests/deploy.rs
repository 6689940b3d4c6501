//! What the documents and deploy files name is there: settings, routes, metrics, commands, files. And the deploy files
//! pass the tools that check their kind.

#![expect(clippy::unwrap_used, reason = "a test ends by it")]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testkit::MirrorProcess;

const MIRROR: &str = env!("CARGO_BIN_EXE_mirror");
/// What programs are told at an address that is no route.
const NO_ROUTE: [&str; 4] = [
    "nothing at this address",
    "this mirror's index over git is at",
    "no dumb HTTP",
    "does not have this part",
];

/// A text file of the repository, by its path from the root.
struct Text {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files_below(folder: &str, found: &mut Vec<Text>) {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    for entry in entries {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files_below(&path, found);
        } else {
            found.push(Text {
                text: read(&path),
                path,
            });
        }
    }
}

/// README and everything below docs/.
fn documents() -> Vec<Text> {
    let mut found = vec![Text {
        path: "README.md".to_owned(),
        text: read("README.md"),
    }];
    files_below("docs", &mut found);
    found
}

/// README, docs/ and deploy/.
fn documents_and_deploy_files() -> Vec<Text> {
    let mut found = documents();
    files_below("deploy", &mut found);
    found
}

/// The fenced code blocks: what stands behind the opening fence, and the text inside.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind, String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, block)), None) => *block += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    found
}

/// All that is written as code: spans between backticks, and the lines of blocks.
fn code(text: &str) -> Vec<String> {
    let mut found: Vec<String> = blocks(text)
        .iter()
        .flat_map(|(_, block)| block.lines())
        .map(str::to_owned)
        .collect();
    let prose = outside_blocks(text);
    found.extend(
        prose
            .lines()
            .flat_map(|line| line.split('`').skip(1).step_by(2))
            .map(str::to_owned),
    );
    found
}

fn outside_blocks(text: &str) -> String {
    let mut inside = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    prose.collect::<Vec<_>>().join("\n")
}

/// The words in `text` that begin with `prefix` and go on with characters that `fits` takes; at least one.
fn words<'a>(text: &'a str, prefix: &'a str, fits: fn(char) -> bool) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix)
        .filter(move |(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(move |(at, _)| {
            let rest = &text[at + prefix.len()..];
            &text[at..at + prefix.len() + rest.find(|c| !fits(c)).unwrap_or(rest.len())]
        })
        .filter(|word| word.len() > prefix.len())
}

fn mirror(args: &[&str]) -> Output {
    Command::new(MIRROR)
        .args(args)
        .env_clear()
        .output()
        .expect("the binary runs")
}

fn stdout(args: &[&str]) -> String {
    let output = mirror(args);
    assert!(
        output.status.success(),
        "mirror {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The settings with their defaults, as the real binary shows them.
fn settings() -> Vec<(String, String)> {
    let shown: toml::Table = stdout(&["config", "show"])
        .parse()
        .expect("`mirror config show` is TOML");
    flat("", &shown)
}

fn flat(section: &str, table: &toml::Table) -> Vec<(String, String)> {
    let named = |name: &str| {
        if section.is_empty() {
            name.to_owned()
        } else {
            format!("{section}.{name}")
        }
    };
    let values = table.iter().flat_map(|(name, value)| match value {
        toml::Value::Table(inner) => flat(&named(name), inner),
        toml::Value::String(text) => vec![(named(name), text.clone())],
        other => vec![(named(name), other.to_string())],
    });
    values.collect()
}

fn variable(key: &str) -> String {
    format!("MIRROR_{}", key.replace('.', "__").to_uppercase())
}

#[test]
fn the_first_two_blocks_of_the_readme_are_the_two_commands() {
    let readme = read("README.md");
    let blocks = blocks(&readme);
    assert_eq!(blocks[0].1.trim(), "cargo run --release -- serve");
    assert_eq!(blocks[1].1.trim(), "cargo test --workspace");
}

#[test]
fn the_readme_has_the_stanzas_that_the_binary_gives() {
    for stanza in [stdout(&["config", "client"]), stdout(&["config", "client", "--old"])] {
        assert!(read("README.md").contains(&stanza), "README.md lacks this:\n{stanza}");
    }
}

#[test]
fn every_setting_is_described_with_variable_and_default() {
    let text = read("docs/CONFIGURATION.md");
    let described: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    let settings = settings();
    assert_eq!(described, settings.iter().map(|(key, _)| key.as_str()).collect());
    for (key, default) in &settings {
        let section = text
            .split(&format!("### `{key}`\n"))
            .nth(1)
            .unwrap()
            .split("\n#")
            .next()
            .unwrap();
        assert!(
            section.contains(&format!("`{}`", variable(key))),
            "{key}: its variable is missing"
        );
        let shown = if default.is_empty() {
            "Default: ".to_owned()
        } else {
            format!("Default: `{default}`")
        };
        assert!(section.contains(&shown), "{key}: its default is not `{default}`");
    }
}

#[test]
fn variables_and_settings_files_name_settings_that_there_are() {
    let keys: BTreeSet<String> = settings().into_iter().map(|(key, _)| key).collect();
    let mut known: BTreeSet<String> = keys.iter().map(|key| variable(key)).collect();
    known.insert("MIRROR_CONFIG".to_owned());
    let mut named = 0;
    for Text { path, text } in documents_and_deploy_files() {
        for name in words(&text, "MIRROR_", |c| c.is_ascii_uppercase() || c == '_') {
            assert!(known.contains(name), "{path} names {name}, which is no setting");
            named += 1;
        }
        for (kind, block) in blocks(&text)
            .into_iter()
            .filter(|(_, block)| block.starts_with("# mirror.toml"))
        {
            assert_eq!(kind, "toml", "{path}");
            for (key, _) in flat("", &block.parse().unwrap()) {
                assert!(keys.contains(&key), "{path} sets {key}, which is no setting");
                named += 1;
            }
        }
    }
    assert!(
        named > keys.len(),
        "only {named} names were found: the search is broken"
    );
}

#[test]
fn commands_and_flags_are_those_of_the_binary() {
    let mut tried = BTreeSet::new();
    for Text { path, text } in documents_and_deploy_files() {
        let spoken = code(&text);
        let lines = spoken.iter().map(String::as_str).chain(
            text.lines()
                .filter_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")),
        );
        let commands = lines.filter_map(|line| line.trim().trim_start_matches("sudo ").strip_prefix("mirror "));
        for line in commands {
            let words: Vec<&str> = line.split('#').next().unwrap().split_whitespace().collect();
            let command = words
                .iter()
                .find(|word| !word.starts_with('-'))
                .copied()
                .unwrap_or_default();
            // what `config` shows and `keys` does is a command of its own
            let within = words.get(1).filter(|_| ["config", "keys"].contains(&command));
            let asked: Vec<&str> = [Some(&command), within, Some(&"--help")]
                .into_iter()
                .flatten()
                .copied()
                .collect();
            let help = mirror(&asked);
            assert!(
                help.status.success(),
                "{path} has `mirror {line}`: there is no such command"
            );
            let help = String::from_utf8(help.stdout).unwrap();
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(
                    help.contains(flag),
                    "{path} has `mirror {line}`: {command} has no {flag}"
                );
            }
            tried.insert(command.to_owned());
        }
    }
    for command in [
        "serve",
        "mode",
        "doctor",
        "healthcheck",
        "search",
        "refresh",
        "evict",
        "config",
        "sync",
        "verify",
        "prefetch",
        "check",
        "pin",
        "unpin",
        "pins",
        "export",
        "import",
        "keys",
    ] {
        assert!(
            tried.contains(command),
            "no document says how to use `mirror {command}`"
        );
    }
}

/// A path as a document writes it, with something in the place of what is left open.
fn filled_in(path: &str) -> String {
    let parts = [
        ("{crate}", "demo"),
        ("{version}", "1.0.0"),
        ("<path>", "de/mo/demo"),
        ("<dependency>", "demo"),
        ("…", "1"),
    ];
    parts
        .iter()
        .fold(path.to_owned(), |path, (open, filled)| path.replace(open, filled))
}

#[test]
fn routes_and_metrics_that_are_named_are_served() {
    let mirror = MirrorProcess::builder(Path::new(MIRROR)).arg("--offline").start();
    let is_route = |path: &str| {
        let body = mirror.get(path).text();
        !NO_ROUTE.iter().any(|line| body.contains(line))
    };
    assert!(
        ["/no/such/route", "/api/v1/none", "/git/none", "/none/git/index"]
            .iter()
            .all(|path| !is_route(path)),
        "what is no route cannot be told any more"
    );
    let metrics = mirror.get("/metrics").text();
    let (mut routes, mut readings) = (0, 0);
    for Text { path, text } in documents_and_deploy_files() {
        let spoken = code(&text);
        let asked = spoken.iter().filter_map(|code| code.strip_prefix("GET "));
        let addresses = text
            .split("http://127.0.0.1:8080")
            .skip(1)
            .filter(|rest| rest.starts_with('/'));
        for route in asked.chain(addresses) {
            let end = route
                .find(|c: char| c.is_whitespace() || "\"`)".contains(c))
                .unwrap_or(route.len());
            let mut filled = filled_in(&route[..end]);
            // the address of a git repository is where its clients begin
            if filled.ends_with("/git/index") {
                filled += "/info/refs?service=git-upload-pack";
            }
            assert!(is_route(&filled), "{path} names {filled}, which is no route");
            routes += 1;
        }
        // an upstream success is read only after there was one
        for name in words(&text, "mirror_", |c| c.is_ascii_lowercase() || c == '_') {
            let after_success = [
                "mirror_upstream_success_age_seconds",
                "mirror_follow_success_age_seconds",
            ];
            let known = metrics.contains(&format!("\n{name} ")) || after_success.contains(&name);
            assert!(known, "{path} names {name}, which is no metric");
            readings += 1;
        }
    }
    assert!(
        routes > 15 && readings > 5,
        "{routes} routes and {readings} metrics found: the search is broken"
    );
}

/// What a heading is linked by, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_and_named_files_lead_somewhere() {
    let mut seen = 0;
    let others = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let others = others.map(|path| Text {
        path: path.to_owned(),
        text: read(path),
    });
    for Text { path, text } in documents().into_iter().chain(others) {
        let prose = outside_blocks(&text);
        let folder = Path::new(&path).parent().unwrap().to_owned();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                root().join(&path)
            } else {
                root().join(&folder).join(file)
            };
            assert!(target.exists(), "{path} links to {link}, which is not there");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let found = text
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{path} links to {link}, which has no such heading");
            }
            seen += 1;
        }
        for name in code(&text).iter().flat_map(|code| code.split_whitespace()) {
            let ours = ["docs/", "deploy/", "tests/", "crates/", ".ci/"]
                .iter()
                .any(|folder| name.starts_with(folder));
            assert!(
                !ours || root().join(name).exists(),
                "{path} names {name}, which is not there"
            );
        }
    }
    assert!(seen > 40, "{seen} links were found: the search is broken");
}

#[test]
fn no_document_names_a_registrys_host() {
    let (name, tail) = ("crates", ".io");
    for Text { path, text } in documents_and_deploy_files() {
        for (at, word) in text.match_indices(&format!("{name}{tail}")) {
            let (before, behind) = (&text[..at], &text[at + word.len()..]);
            let is_host =
                before.ends_with(['.', '/', '@']) || behind.starts_with(['/', ':']) && !behind.starts_with(": ");
            assert!(
                !is_host,
                "{path} names a host: …{}",
                &text[at - at.min(20)..at + word.len()]
            );
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let reasons = read("docs/decisions/0001-stack-and-dependencies.md");
    let rows: Vec<&str> = reasons
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .collect();
    let explained: BTreeSet<&str> = rows.iter().flat_map(|names| names.split(", ")).collect();
    let dependencies = manifest["workspace"]["dependencies"].as_table().unwrap();
    for (name, _) in dependencies.iter().filter(|(_, value)| value.get("path").is_none()) {
        assert!(
            explained.contains(name.as_str()),
            "{name} is a dependency without a reason in docs/decisions"
        );
    }
}

/// Runs systemd-analyze on the unit with the tested binary in the place of the installed one; `None` where there is none.
fn systemd_analyze(args: &[&str]) -> Option<Output> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("deploy-{}", args[0]));
    std::fs::create_dir_all(&folder).unwrap();
    let unit = read("deploy/systemd/mirror.service").replace("/usr/local/bin/mirror", MIRROR);
    let path = folder.join("mirror.service");
    std::fs::write(&path, unit).unwrap();
    match Command::new("systemd-analyze").args(args).arg(&path).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: there is no systemd-analyze on this machine");
            None
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    }
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let said =
        |output: &Output| String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    if let Some(output) = systemd_analyze(&["verify"]) {
        assert!(
            output.status.success() && !said(&output).contains("mirror.service"),
            "{}",
            said(&output)
        );
    }
    // the threshold is in tenths: 2.0 of 10
    if let Some(output) = systemd_analyze(&["security", "--offline=true", "--threshold=20"]) {
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn the_container_is_made_of_what_is_there() {
    let containerfile = read("deploy/container/Containerfile");
    let ignored = read(".dockerignore");
    let instruction = |name: &'static str| {
        containerfile
            .lines()
            .filter_map(move |line| line.trim().strip_prefix(name))
    };
    for copied in instruction("COPY ").filter(|copy| !copy.starts_with("--from") && !copy.starts_with('.')) {
        let mut sources: Vec<&str> = copied.split_whitespace().collect();
        sources.pop();
        for source in sources {
            assert!(root().join(source).exists(), "{source} is copied and not there");
            assert!(
                ignored.contains(&format!("!{source}\n")),
                "{source} is copied and ignored"
            );
        }
    }
    let port = instruction("EXPOSE ").next().unwrap();
    assert!(instruction("ENV ").any(|set| set.split(' ').any(|pair| pair == format!("PORT={port}"))));
    for list in containerfile
        .split("CMD [")
        .skip(1)
        .filter_map(|rest| rest.split(']').next())
    {
        let words: Vec<&str> = list.split(',').map(|word| word.trim().trim_matches('"')).collect();
        assert_eq!(words[0], "mirror");
        assert!(
            mirror(&[words[1], "--help"]).status.success(),
            "there is no command {}",
            words[1]
        );
    }
    let compose = read("deploy/container/compose.yaml");
    let named = compose
        .lines()
        .find_map(|line| line.trim().strip_prefix("dockerfile: "))
        .unwrap();
    assert!(root().join(named).exists() && compose.contains("context: ../..\n"));
    assert!(compose.contains(&format!("\"{port}:{port}\"")));
}
