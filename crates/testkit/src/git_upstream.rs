//! A git repository over http on 127.0.0.1, served by `git http-backend`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use crate::BuiltCrate;
use crate::command;
use crate::git::git_ok;
use crate::http::{Head, read_head};

/// A repository with an index in it that a mirror can follow. It ends when it is dropped.
#[derive(Debug)]
pub struct GitUpstream {
    home: TempDir,
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    root: PathBuf,
    ended: AtomicBool,
    refusing: AtomicBool,
    /// The next answers to POST are cut after so many bytes.
    cut_after: Mutex<Option<usize>>,
    requests: AtomicU64,
    posts: AtomicU64,
    sent_bytes: AtomicU64,
}

impl GitUpstream {
    /// Starts one with an empty repository. Panics if there is no git.
    pub fn start() -> Self {
        let home = tempfile::tempdir().expect("the machine has room for a directory");
        let dir = home.path().join("index");
        std::fs::create_dir(&dir).expect("a new directory is empty");
        git_ok(&dir, &["init", "-q", "-b", "master"]);
        git_ok(&dir, &["config", "gc.auto", "0"]);
        Self::serve(home)
    }

    /// Serves a copy of the repository in `git_dir`, bare or not, sharing its objects.
    pub fn of(git_dir: &Path) -> Self {
        let home = tempfile::tempdir().expect("the machine has room for a directory");
        let source = git_dir.canonicalize().expect("the repository is there");
        let source = source.to_str().expect("paths of tests are text");
        git_ok(
            home.path(),
            &["clone", "-q", "--shared", "--no-checkout", source, "index"],
        );
        Self::serve(home)
    }

    fn serve(home: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 always has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            root: home.path().to_owned(),
            ..Shared::default()
        });
        let theirs = Arc::clone(&shared);
        let accepting = Some(thread::spawn(move || accept(&listener, &theirs)));
        Self {
            home,
            address,
            shared,
            accepting,
        }
    }

    /// `http://127.0.0.1:PORT/index`.
    pub fn url(&self) -> String {
        format!("http://{}/index", self.address)
    }

    /// The directory of the repository's files; its `.git` is in it.
    pub fn dir(&self) -> PathBuf {
        self.home.path().join("index")
    }

    /// Writes files, or removes those without content, and commits. Gives the commit's id.
    pub fn commit(&self, files: &[(&str, Option<&str>)]) -> String {
        let dir = self.dir();
        for (path, content) in files {
            let path = dir.join(path);
            match content {
                Some(content) => {
                    let folder = path.parent().expect("a file is in a directory");
                    std::fs::create_dir_all(folder).expect("the machine has room for a directory");
                    std::fs::write(&path, content).expect("the machine has room for a file");
                }
                None => std::fs::remove_file(&path).expect("what is removed was there"),
            }
        }
        git_ok(&dir, &["add", "-A"]);
        git_ok(&dir, &["commit", "-q", "--allow-empty", "-m", "change"]);
        self.head()
    }

    /// Commits a `config.json` with this `dl`, the lines of these crates, and so many further index files, `fi/ll/filler-0000` and on,
    /// that nobody builds with. Gives the commit's id.
    pub fn commit_index(&self, dl: &str, crates: &[BuiltCrate], fillers: usize) -> String {
        let mut index = BTreeMap::from([("config.json".to_owned(), format!("{{\"dl\":\"{dl}\"}}\n"))]);
        for krate in crates {
            let file = index.entry(krate.index_path()).or_default();
            file.push_str(&format!("{}\n", krate.index_line));
        }
        for number in 0..fillers {
            index.insert(format!("fi/ll/filler-{number:04}"), Self::filler(number, 1));
        }
        let files = index.iter().map(|(path, text)| (path.as_str(), Some(text.as_str())));
        self.commit(&files.collect::<Vec<_>>())
    }

    /// The index file of `filler-NUMBER` with so many versions.
    pub fn filler(number: usize, versions: usize) -> String {
        let line = |minor| {
            let checksum = format!("{number:032x}{minor:032x}");
            format!(
                "{{\"name\":\"filler-{number:04}\",\"vers\":\"0.{minor}.0\",\"deps\":[],\"cksum\":\"{checksum}\",\"features\":{{}},\"yanked\":false}}\n"
            )
        };
        (0..versions).map(line).collect()
    }

    /// The newest commit's id.
    pub fn head(&self) -> String {
        git_ok(&self.dir(), &["rev-parse", "refs/heads/master"])
    }

    /// Replaces all history by one commit with the same tree, as a force-push does. Gives its id.
    pub fn squash(&self) -> String {
        let dir = self.dir();
        let id = git_ok(&dir, &["commit-tree", "-m", "squash", "HEAD^{tree}"]);
        git_ok(&dir, &["update-ref", "refs/heads/master", &id]);
        id
    }

    /// Drops what no branch needs any more: the history before a squash.
    pub fn prune(&self) {
        let dir = self.dir();
        git_ok(&dir, &["reflog", "expire", "--expire=now", "--all"]);
        git_ok(&dir, &["gc", "-q", "--prune=now"]);
    }

    /// Answers 503 to everything, or no longer.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::Relaxed);
    }

    /// Cuts answers to POST after so many bytes of their body, or no longer.
    pub fn cut_after(&self, size_bytes: Option<usize>) {
        *self.shared.cut_after.lock().unwrap_or_else(PoisonError::into_inner) = size_bytes;
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many of them were POSTs.
    pub fn posts(&self) -> u64 {
        self.shared.posts.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that were sent.
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for GitUpstream {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the one that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            // A panic of the thread has been printed by itself.
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        // An error here is one of a peer that has gone already.
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // Ends with its client, which a test does not outlive.
        thread::spawn(move || {
            let _ = converse(&stream, &shared);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

fn converse(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader)? {
        let length = head.header("content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        if shared.refusing.load(Ordering::Relaxed) {
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        answer(stream, shared, &head, body)?;
    }
    Ok(())
}

fn answer(mut stream: &TcpStream, shared: &Shared, head: &Head, body: Vec<u8>) -> io::Result<()> {
    let mut words = head.first_line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_post = method == "POST";
    let mut backend = command::clean("git", &shared.root);
    backend.arg("http-backend").current_dir(&shared.root);
    let length = body.len().to_string();
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_HTTP_EXPORT_ALL", "1"),
        ("REQUEST_METHOD", method),
        ("PATH_INFO", path),
        ("QUERY_STRING", query),
        ("CONTENT_LENGTH", if is_post { &length } else { "" }),
        ("CONTENT_TYPE", head.header("content-type").unwrap_or_default()),
        (
            "HTTP_CONTENT_ENCODING",
            head.header("content-encoding").unwrap_or_default(),
        ),
        ("GIT_PROTOCOL", head.header("git-protocol").unwrap_or_default()),
    ] {
        backend.env(name, value);
    }
    backend.env("GIT_PROJECT_ROOT", &shared.root);
    let mut backend = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = backend.stdin.take().expect("it is piped");
    // A backend that does not want all of it says why in its answer.
    let feeding = thread::spawn(move || drop(input.write_all(&body)));
    let mut output = BufReader::new(backend.stdout.take().expect("it is piped"));
    let (status, headers) = cgi_head(&mut output)?;
    let mut text = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n");
    headers.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    let cut_after = if is_post {
        shared.posts.fetch_add(1, Ordering::Relaxed);
        *shared.cut_after.lock().unwrap_or_else(PoisonError::into_inner)
    } else {
        None
    };
    let sent = copy(&mut output, stream, shared, cut_after);
    if sent.is_err() {
        // It may have ended by itself.
        let _ = backend.kill();
    }
    backend.wait()?;
    let _ = feeding.join();
    sent
}

/// The status line and the other headers of a CGI program's answer.
fn cgi_head(output: &mut impl BufRead) -> io::Result<(String, Vec<String>)> {
    let (mut status, mut headers) = ("200 OK".to_owned(), Vec::new());
    loop {
        let mut line = String::new();
        if output.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => return Ok((status, headers)),
            line => match line.split_once(": ") {
                Some(("Status", value)) => value.clone_into(&mut status),
                _ => headers.push(line.to_owned()),
            },
        }
    }
}

fn copy(output: &mut impl Read, mut stream: &TcpStream, shared: &Shared, cut_after: Option<usize>) -> io::Result<()> {
    let (mut piece, mut sent) = (vec![0; 32 << 10], 0);
    loop {
        let mut read = output.read(&mut piece)?;
        if read == 0 {
            return stream.write_all(b"0\r\n\r\n");
        }
        let is_cut = cut_after.is_some_and(|limit| sent + read > limit);
        if is_cut {
            read = cut_after.unwrap_or(0) - sent;
        }
        stream.write_all(format!("{read:x}\r\n").as_bytes())?;
        stream.write_all(&piece[..read])?;
        stream.write_all(b"\r\n")?;
        sent += read;
        shared.sent_bytes.fetch_add(read as u64, Ordering::Relaxed);
        if is_cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::git;

    #[test]
    fn git_clones_and_updates_from_it() {
        let upstream = GitUpstream::start();
        let first = upstream.commit(&[("1/a", Some("one\n")), ("config.json", Some("{}"))]);
        let dir = tempfile::tempdir().unwrap();
        git_ok(dir.path(), &["clone", "-q", "--depth", "1", &upstream.url(), "clone"]);
        let clone = dir.path().join("clone");
        assert_eq!(git_ok(&clone, &["rev-parse", "HEAD"]), first);
        let second = upstream.commit(&[("1/a", None)]);
        upstream.refuse(true);
        assert!(!git(&clone, &["fetch", "-q"]).status.success());
        upstream.refuse(false);
        git_ok(&clone, &["fetch", "-q"]);
        assert_eq!(git_ok(&clone, &["rev-parse", "origin/master"]), second);
        let squashed = upstream.squash();
        upstream.prune();
        git_ok(&clone, &["fetch", "-q"]);
        assert_eq!(git_ok(&clone, &["rev-parse", "origin/master"]), squashed);
        assert!(upstream.posts() >= 3 && upstream.requests() > upstream.posts() && upstream.sent_bytes() > 0);
    }

    #[test]
    fn answers_are_cut_where_a_test_says_so() {
        let upstream = GitUpstream::start();
        upstream.commit(&[("1/a", Some("one\n"))]);
        let dir = tempfile::tempdir().unwrap();
        upstream.cut_after(Some(100));
        let clone = ["clone", "-q", &upstream.url(), "clone"];
        assert!(!git(dir.path(), &clone).status.success());
        upstream.cut_after(None);
        git_ok(dir.path(), &clone);
    }
}
