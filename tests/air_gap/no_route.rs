//! An office that never had a network: what a bundle brought is served within a second, builds by both protocols, and nothing is connected to.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::{MirrorBuilder, MirrorProcess, ReservedPort, eventually, run_if_there};

use crate::namespaces;
use crate::sides::{Outside, app_and_lib, both_ways, builds, check, ok, project, text};

/// The promise is a second; machines that run tests do other things too.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(60);

#[test]
fn an_office_with_no_route_out_serves_all_and_connects_to_nothing() {
    match namespaces::place() {
        None => prepared_outside(),
        Some(place) => inside(&place),
    }
}

fn prepared_outside() {
    let crates = app_and_lib("1.0.0", "carried");
    let outside = Outside::with(&crates);
    let project = project().use_index(&both_ways(&outside.mirror)[0]);
    project.cargo_ok(&["generate-lockfile"]);
    outside.keep(&crates);
    let bundle = outside.export("bundle.tar", &[]);
    let place = tempfile::tempdir().unwrap();
    std::fs::copy(bundle, place.path().join("bundle.tar")).unwrap();
    let lock = place.path().join("Cargo.lock");
    std::fs::copy(project.path().join("Cargo.lock"), &lock).unwrap();
    std::fs::write(place.path().join("key"), outside.key()).unwrap();
    std::fs::write(place.path().join("check"), check(&outside.mirror, &lock).to_string()).unwrap();
    namespaces::without_a_network(
        "no_route::an_office_with_no_route_out_serves_all_and_connects_to_nothing",
        place.path(),
    );
}

/// The binary, with each of its connections written down.
struct Traced {
    binary: PathBuf,
    traces: PathBuf,
}

impl Traced {
    /// `None`, with the reason, where there is no strace that may follow.
    fn new(place: &Path) -> Option<Self> {
        if !run_if_there("strace", &["-f", "-e", "trace=connect", "true"]).is_some_and(|output| output.status.success())
        {
            eprintln!("not traced: there is no strace, or it may not follow others");
            return None;
        }
        let own = Self {
            binary: place.join("traced"),
            traces: place.join("traces"),
        };
        std::fs::create_dir(&own.traces).unwrap();
        // as a grandchild, so that the process is the mirror's
        let script = format!(
            "#!/bin/sh\nexec strace -D -f -qq -e trace=connect -o {}/$$ {} \"$@\"\n",
            own.traces.display(),
            env!("CARGO_BIN_EXE_mirror")
        );
        std::fs::write(&own.binary, script).unwrap();
        std::fs::set_permissions(&own.binary, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Some(own)
    }

    fn connects(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.traces).unwrap();
        let text = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let text = text.collect::<String>();
        text.lines()
            .filter(|line| line.contains("connect("))
            .map(str::to_owned)
            .collect()
    }
}

/// As its admin leaves it: with the upstream that is the default, and a network that leads nowhere.
fn office(binary: &Path, data_dir: &Path, port: &ReservedPort) -> MirrorBuilder {
    MirrorProcess::builder(binary)
        .data_dir(data_dir)
        .upstream_sparse("crates.io")
        .env("MIRROR_UPSTREAM__GIT", "crates.io")
        .env("MIRROR_MODE", "offline")
        .env("MIRROR_CACHE__SCRUB_INTERVAL", "1h")
        .env("MIRROR_LISTEN", &port.authority())
        .arg("--offline")
}

fn inside(place: &Path) {
    let nowhere = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().connect("192.0.2.1:9");
    assert!(nowhere.is_err(), "there is a way out of here");
    let (data, port) = (place.join("data"), ReservedPort::new());
    let traced = Traced::new(place);
    let plain = Path::new(env!("CARGO_BIN_EXE_mirror"));
    let binary = traced.as_ref().map_or(plain, |traced| &traced.binary);
    let key = std::fs::read_to_string(place.join("key")).unwrap();
    ok(&office(binary, &data, &port).run(&["import", text(&place.join("bundle.tar")), "--trust", &key]));

    let took = (0..3).map(|_| first_answer(plain, &data, &port)).min().unwrap();
    println!("{took:?} to the first answer");
    assert!(took < FIRST_ANSWER, "{took:?} to the first answer");

    let office = office(binary, &data, &port).start();
    builds(&office, "carried");
    let found = office.get("/api/v1/crates?q=app&per_page=10");
    assert!(found.text().contains("\"app\""), "{}", found.text());
    for page in [
        "/",
        "/status",
        "/crates/app",
        "/search?q=lib",
        "/imports",
        "/wanted",
        "/healthz",
        "/readyz",
    ] {
        assert_eq!(office.get(page).status, 200, "{page}");
    }
    assert_eq!(office.get("/index/se/rd/serde").status, 404);
    assert_eq!(office.get("/api/v1/crates/app/9.9.9/download").status, 404);
    let said: serde_json::Value = serde_json::from_slice(&std::fs::read(place.join("check")).unwrap()).unwrap();
    assert_eq!(check(&office, &place.join("Cargo.lock")), said);
    // all that an admin may try, also what would ask upstream in another mode
    let words = [
        "verify --repair",
        "search app",
        "wanted",
        "imports",
        "removed",
        "refresh app",
        "sync",
        "prefetch --crate serde",
        "prefetch --crate app --with-deps",
        "export --dry-run",
        "prune",
    ];
    for command in words {
        office.run(&command.split(' ').collect::<Vec<_>>());
    }
    assert!(office.terminate().success());
    if let Some(traced) = traced {
        // the last lines may come a moment after the end
        let by_socket = || {
            traced
                .connects()
                .iter()
                .any(|line| line.contains("control.sock"))
                .then_some(())
        };
        assert!(
            eventually(SOON, by_socket).is_some(),
            "a trace shows how commands reach the server"
        );
        let connects = traced.connects();
        let leads_out = |line: &&String| !line.contains("sa_family=AF_UNIX");
        let out: Vec<_> = connects.iter().filter(leads_out).collect();
        assert!(out.is_empty(), "connected to: {out:#?}");
        println!("{} connections, all by unix sockets", connects.len());
    }
}

/// From nothing to an index file.
fn first_answer(binary: &Path, data: &Path, port: &ReservedPort) -> Duration {
    let builder = office(binary, data, port);
    let begun = Instant::now();
    let office = builder.start();
    assert_eq!(office.get("/index/3/l/lib").status, 200);
    let took = begun.elapsed();
    assert!(office.terminate().success());
    took
}
