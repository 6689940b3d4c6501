use std::collections::HashMap;
use std::sync::Arc;

use registry::{Checksum, DownloadTemplate};

use super::validators::{Validators, not_modified};
use crate::BuiltCrate;
use crate::http::Head;
use crate::krate::index_path;

/// A version, by name and version.
type Key = (String, String);

/// What the upstream says, before any fault.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Arc<Vec<u8>>,
}

impl Answer {
    pub(super) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: Arc::new(body.into()),
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Arc<Vec<u8>>,
    checksum: Checksum,
    revision: u32,
}

/// Everything an upstream has.
#[derive(Debug)]
pub(super) struct Content {
    base: String,
    dl: String,
    own_config: Option<Stored>,
    default_config: Stored,
    index: HashMap<String, Stored>,
    crate_files: HashMap<Key, Stored>,
    /// The checksums that the index names, which `dl` may want.
    checksums: HashMap<Key, Checksum>,
    download_paths: HashMap<String, Key>,
    extra: HashMap<String, Stored>,
    revision: u32,
    token: Option<String>,
    pub(super) validators: Validators,
}

impl Content {
    pub(super) fn new(base: String) -> Self {
        let mut content = Self {
            dl: format!("{base}/dl"),
            base,
            own_config: None,
            default_config: Stored {
                bytes: Arc::default(),
                checksum: Checksum::of(b""),
                revision: 0,
            },
            index: HashMap::new(),
            crate_files: HashMap::new(),
            checksums: HashMap::new(),
            download_paths: HashMap::new(),
            extra: HashMap::new(),
            revision: 0,
            token: None,
            validators: Validators::Both,
        };
        content.renew_config();
        content
    }

    fn store(&mut self, bytes: Vec<u8>) -> Stored {
        self.revision += 1;
        Stored {
            checksum: Checksum::of(&bytes),
            bytes: Arc::new(bytes),
            revision: self.revision,
        }
    }

    fn renew_config(&mut self) {
        let mut config = serde_json::json!({"dl": self.dl, "api": self.base});
        if self.token.is_some() {
            config["auth-required"] = true.into();
        }
        self.default_config = self.store(config.to_string().into_bytes());
    }

    pub(super) fn set_config_json(&mut self, bytes: &[u8]) {
        self.own_config = Some(self.store(bytes.to_vec()));
        let config: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        if let Some(dl) = config.as_ref().and_then(|config| config["dl"].as_str()) {
            dl.clone_into(&mut self.dl);
            self.renew_download_paths();
        }
    }

    pub(super) fn set_dl(&mut self, template: &str) {
        self.dl = if template.starts_with('/') {
            format!("{}{template}", self.base)
        } else {
            template.to_owned()
        };
        self.own_config = None;
        self.renew_config();
        self.renew_download_paths();
    }

    pub(super) fn require_token(&mut self, token: Option<&str>) {
        self.token = token.map(str::to_owned);
        self.renew_config();
    }

    fn renew_download_paths(&mut self) {
        self.download_paths.clear();
        let keys: Vec<Key> = self.checksums.keys().cloned().collect();
        for key in keys {
            self.add_download_path(&key);
        }
    }

    /// A `dl` that is no template at all (tests of bad configurations) leads to no path of ours.
    fn add_download_path(&mut self, key: &Key) {
        let (Ok(template), Ok(name), Ok(version)) = (DownloadTemplate::parse(&self.dl), key.0.parse(), key.1.parse())
        else {
            return;
        };
        let url = template.url(&name, &version, &self.checksums[key]);
        let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
        if let Some(slash) = after_scheme.find('/') {
            self.download_paths
                .insert(after_scheme[slash..].to_owned(), key.clone());
        }
    }

    pub(super) fn add(&mut self, krate: &BuiltCrate) {
        let key = (krate.name.clone(), krate.version.clone());
        let stored = self.store(krate.bytes.clone());
        self.crate_files.insert(key.clone(), stored);
        self.checksums.insert(key.clone(), krate.checksum);
        self.add_download_path(&key);
        let is_other = |line: &&String| vers(line).as_deref() != Some(krate.version.as_str());
        let lines = self.lines(&krate.name);
        let at = lines.iter().position(|line| !is_other(&line));
        let mut lines: Vec<String> = lines.iter().filter(is_other).cloned().collect();
        lines.insert(at.unwrap_or(lines.len()), krate.index_line.clone());
        self.set_lines(&krate.name, &lines);
    }

    pub(super) fn yank(&mut self, name: &str, version: &str, yanked: bool) {
        let mut lines = self.lines(name);
        let line = lines
            .iter_mut()
            .find(|line| vers(line).as_deref() == Some(version))
            .expect("only a version that is there can be yanked");
        let (before, after) = (format!("\"yanked\":{}", !yanked), format!("\"yanked\":{yanked}"));
        // As text, so that everything else in the line stays as it is.
        *line = line.replace(&before, &after);
        assert!(
            line.contains(&after),
            "the line of {name} {version} has no `yanked`: {line}"
        );
        self.set_lines(name, &lines);
    }

    pub(super) fn remove_version(&mut self, name: &str, version: &str) {
        let mut lines = self.lines(name);
        lines.retain(|line| vers(line).as_deref() != Some(version));
        self.set_lines(name, &lines);
        let key = (name.to_owned(), version.to_owned());
        self.crate_files.remove(&key);
        self.checksums.remove(&key);
    }

    pub(super) fn remove_crate(&mut self, name: &str) {
        self.set_lines(name, &[]);
        self.crate_files.retain(|(other, _), _| other != name);
        self.checksums.retain(|(other, _), _| other != name);
    }

    pub(super) fn replace_crate_bytes(&mut self, name: &str, version: &str, bytes: &[u8]) {
        let stored = self.store(bytes.to_vec());
        self.crate_files.insert((name.to_owned(), version.to_owned()), stored);
    }

    pub(super) fn set_index_file(&mut self, path: &str, bytes: &[u8]) {
        let stored = self.store(bytes.to_vec());
        self.index.insert(path.to_owned(), stored);
    }

    pub(super) fn serve_at(&mut self, path: &str, bytes: &[u8]) {
        let stored = self.store(bytes.to_vec());
        self.extra.insert(path.to_owned(), stored);
    }

    pub(super) fn index_file(&self, path: &str) -> Option<Vec<u8>> {
        self.index.get(path).map(|stored| stored.bytes.to_vec())
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let bytes = self.index_file(&index_path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    fn set_lines(&mut self, name: &str, lines: &[String]) {
        let path = index_path(name);
        if lines.is_empty() {
            self.index.remove(&path);
        } else {
            self.set_index_file(&path, format!("{}\n", lines.join("\n")).as_bytes());
        }
    }

    /// The right answer; a 304 only if `conditional`.
    pub(super) fn answer(&self, request: &Head, path: &str, conditional: bool) -> Answer {
        if self.token.is_some() && request.header("authorization") != self.token.as_deref() {
            return Answer::new(401, "text/plain", "a token is needed\n").with("WWW-Authenticate", "Cargo");
        }
        if !request.first_line.starts_with("GET ") && !request.first_line.starts_with("HEAD ") {
            return Answer::new(405, "text/plain", "this registry only reads\n");
        }
        let Some((stored, content_type)) = self.find(path) else {
            return Answer::new(404, "text/plain", "there is no such file\n");
        };
        let mut answer = Answer {
            status: 200,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: Arc::clone(&stored.bytes),
        };
        let validators = self.validators.of(stored.checksum, stored.revision);
        if conditional && not_modified(request, &validators) {
            answer = Answer {
                status: 304,
                headers: Vec::new(),
                body: Arc::default(),
            };
        }
        answer.headers.extend(validators);
        answer
    }

    fn find(&self, path: &str) -> Option<(&Stored, &'static str)> {
        let plain = path.split('?').next().unwrap_or(path);
        let plain = plain.replace("%2B", "+").replace("%2b", "+");
        if let Some(stored) = self.extra.get(path).or_else(|| self.extra.get(&plain)) {
            return Some((stored, "application/octet-stream"));
        }
        if plain == "/index/config.json" {
            let config = self.own_config.as_ref().unwrap_or(&self.default_config);
            return Some((config, "application/json"));
        }
        if let Some(path) = plain.strip_prefix("/index/") {
            return self.index.get(path).map(|stored| (stored, "text/plain"));
        }
        let key = self
            .download_paths
            .get(path)
            .or_else(|| self.download_paths.get(&plain))?;
        Some((self.crate_files.get(key)?, "application/gzip"))
    }
}

fn vers(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["vers"].as_str().map(str::to_owned)
}
