//! `mirror doctor`: what an administrator or a bug report needs, each line a fact, each problem a line that says so.

mod upstream;

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use index_sync::PublishedTree;

use super::{Ended, say};
use crate::control::{self, ask};
use crate::data_dir::check_format;
use crate::error::chain;
use crate::free_space::{file_system, free_bytes};
use crate::settings::{Mode, Settings};

/// A clock before this is wrong: the day this was written, in Unix seconds.
const NOT_BEFORE: u64 = 1_795_132_800;

/// Looks at everything and prints it. Fails if something is wrong that keeps the mirror from its work.
pub fn doctor(settings: Settings) -> Ended {
    let mut report = Report::default();
    versions(&mut report);
    disk(&mut report, &settings);
    clock(&mut report);
    server(&mut report, &settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if settings.mode == Mode::Offline {
            return upstream::offline(&mut report, &settings);
        }
        upstream::upstream(&mut report, &settings).await;
        upstream::upstream_git(&mut report, &settings).await;
    });
    let problems = report.problems;
    let verdict = match problems {
        0 => "no problem found\n".to_owned(),
        1 => "1 problem found\n".to_owned(),
        _ => format!("{problems} problems found\n"),
    };
    say(&(report.text + "\n" + &verdict))?;
    Ok(problems == 0)
}

#[derive(Default)]
struct Report {
    text: String,
    problems: usize,
}

impl Report {
    fn section(&mut self, title: &str) {
        let _ = writeln!(self.text, "{}{title}", if self.text.is_empty() { "" } else { "\n" });
    }

    fn fact(&mut self, what: &str, value: impl std::fmt::Display) {
        let value: String = value
            .to_string()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let _ = writeln!(self.text, "  {what:<24} {value}");
    }

    fn problem(&mut self, what: &str, why: impl std::fmt::Display) {
        self.problems += 1;
        self.fact(what, format!("PROBLEM: {why}"));
    }

    fn result(&mut self, what: &str, result: Result<impl std::fmt::Display, impl std::fmt::Display>) {
        match result {
            Ok(value) => self.fact(what, value),
            Err(why) => self.problem(what, why),
        }
    }
}

fn versions(report: &mut Report) {
    report.section("Versions");
    report.fact("mirror", env!("CARGO_PKG_VERSION"));
    report.fact("SQLite", metadata_db::sqlite_version());
    let system = rustix::system::uname();
    let (name, release) = (system.sysname().to_string_lossy(), system.release().to_string_lossy());
    report.fact("system", format!("{name} {release} {}", std::env::consts::ARCH));
}

fn disk(report: &mut Report, settings: &Settings) {
    report.section("Data directory");
    let dir = &settings.data_dir;
    let shown = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    report.fact(
        "path",
        format!("{} (from {})", shown.display(), settings.layers.get("data_dir").source),
    );
    if let Err(error) = check_format(dir) {
        report.problem("format", error);
    }
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    report.result("file system", file_system(there));
    match free_bytes(there) {
        Ok(free) if free < settings.min_free_bytes => report.problem(
            "free",
            format!(
                "{free} bytes, less than cache.min_free ({}): nothing new is kept",
                settings.min_free_bytes
            ),
        ),
        free => report.result("free", free.map(|free| format!("{free} bytes"))),
    }
    if !dir.is_dir() {
        return report.fact("state", "not there yet; `mirror serve` makes it");
    }
    match PublishedTree::open_read_only(&dir.join("index.git")).and_then(|tree| Ok((tree.tip()?, tree.count_files()?)))
    {
        Ok((tip, files)) => {
            let commit = tip.map_or("no commit yet".to_owned(), |tip| tip.commit.to_string());
            report.fact("index", format!("{files} crates at {commit}"));
        }
        Err(error) => report.problem("index", chain(&error)),
    }
    let totals = metadata_db::MetadataDb::open_read_only(&dir.join("mirror.db")).and_then(|db| db.totals());
    let totals = totals.map(|totals| {
        format!(
            "{} files of {} crates, {} bytes",
            totals.files, totals.crates, totals.bytes
        )
    });
    report.result("kept", totals.map_err(|error| chain(&error)));
}

fn clock(report: &mut Report) {
    report.section("Clock");
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    if seconds < NOT_BEFORE {
        report.problem(
            "now",
            format!("{seconds} seconds since 1970 lies in the past: TLS will fail"),
        );
    } else {
        report.fact("now", format!("{seconds} seconds since 1970"));
    }
}

fn server(report: &mut Report, settings: &Settings) {
    report.section("Server");
    match ask(&settings.data_dir, &control::Request::Health) {
        Ok(Some(reply)) if reply.ok => report.fact("running", reply.message),
        Ok(Some(reply)) => report.problem("running", reply.message),
        Ok(None) => report.fact("running", "no"),
        Err(error) => report.problem("control.sock", error),
    }
}
