//! What a power cut may find (threats S4, P3): a crate file has its name only once its bytes are on the disk, and then its folder is flushed. That is seen in
//! the order of the system calls: a kill cannot tell, since the kernel outlives it.

use std::path::Path;

use testkit::{CrateBuilder, FakeUpstream, MirrorProcess};

use crate::download;
use crate::strace::Strace;

const FILES: usize = 20;

/// The calls of one thread in their order, each as far as its beginning says.
fn calls_by_thread(trace: &str) -> Vec<Vec<&str>> {
    let begun = |line: &&str| !line.contains("resumed>");
    let mut threads: Vec<(&str, Vec<&str>)> = Vec::new();
    for (thread, call) in trace.lines().filter(begun).filter_map(|line| line.split_once(' ')) {
        match threads.iter_mut().find(|(other, _)| *other == thread) {
            Some((_, calls)) => calls.push(call.trim_start()),
            None => threads.push((thread, vec![call.trim_start()])),
        }
    }
    threads.into_iter().map(|(_, calls)| calls).collect()
}

/// The two paths of a call that gives a crate file its name.
fn named(call: &str) -> Option<(&str, &str)> {
    let paths = call.strip_prefix("rename(\"")?.split_once("\")")?.0;
    let (from, to) = paths.split_once("\", \"")?;
    to.contains("/blobs/").then_some((from, to))
}

/// Whether this flushes what is at `path`: `fsync(12</path>)`.
fn flushes(call: Option<&&str>, path: &str) -> bool {
    call.is_some_and(|call| call.starts_with("fsync(") && call.contains(&format!("<{path}>")))
}

#[test]
fn a_file_has_its_name_after_its_bytes_are_on_the_disk_and_its_folder_follows() {
    let upstream = FakeUpstream::start();
    let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
        .upstream(&upstream)
        .start();
    let home = tempfile::tempdir().unwrap();
    let trace = home.path().join("trace");
    let args = [
        "-y",
        "-s",
        "1000",
        "-e",
        "trace=fsync,fdatasync,rename",
        "-o",
        trace.to_str().unwrap(),
    ];
    let Some(strace) = Strace::on(&mirror, &args) else {
        return;
    };
    for number in 0..FILES {
        let krate = CrateBuilder::new(&format!("ordered{number}"), "1.0.0")
            .padding(10_000 * number)
            .build();
        upstream.add(&krate);
        assert!(download(&mirror, &krate));
    }
    mirror.kill9();
    strace.wait();
    let trace = std::fs::read_to_string(trace).unwrap();
    let mut seen = 0;
    for calls in calls_by_thread(&trace) {
        for (at, (from, to)) in calls
            .iter()
            .enumerate()
            .filter_map(|(at, call)| Some((at, named(call)?)))
        {
            let folder = Path::new(to).parent().unwrap().to_str().unwrap();
            let before = at.checked_sub(1).and_then(|before| calls.get(before));
            assert!(flushes(before, from), "{from} has a name before it is flushed\n{trace}");
            assert!(
                flushes(calls.get(at + 1), folder),
                "{folder} is not flushed for {to}\n{trace}"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, FILES, "{trace}");
}
