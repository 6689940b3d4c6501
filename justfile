# The short names of everyday work. `just` alone lists them.

_list:
    @just --list --unsorted

# what .ci/run does first: format, lints, tests
check: fmt lint test

fmt:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets -- -D warnings

# everything that runs anywhere, offline
test:
    cargo test --workspace

# licences, bans, sources and (where the database can be fetched) advisories
deny:
    @command -v cargo-deny > /dev/null || echo "cargo install --locked cargo-deny" first
    cargo deny check bans licenses sources

# with the real crates.io: a project of some 150 dependencies, online, then offline from what was kept; three small ones across an air gap
e2e-online:
    MIRROR_E2E_ONLINE=1 cargo test -p mirror --test online -- --nocapture --test-threads 1

# kill -9 at random moments under load, 1,000 times, and before each call that changes the disk
soak-crash rounds="1000":
    MIRROR_CRASH_ROUNDS={{rounds}} cargo test --release -p mirror --test crash -- --nocapture

# a cold `cargo fetch` of 300 crates at 0, 2 and 20 ms, against nginx and against HTTP/1.1
bench-cold *options:
    cargo build --release
    python3 tests/bench/cold_fetch.py {{options}}

# crate files that are not here yet: first byte, whole, and 50 clients at once
bench-miss *options:
    cargo build --release
    python3 tests/bench/cold_miss.py {{options}}

# kept files and index files by wrk beside nginx, memory of many clients, a good client among slow ones
bench-cache *options:
    cargo build --release
    python3 tests/bench/cache_serving.py {{options}}

# 200,000 kept files: adoption, start to the first answer, memory when idle
bench-start *options:
    cargo build --release
    cd tests/bench && python3 startup_many.py --mirror ../../target/release/mirror {{options}}

# a real index over git: to every git client and cargo of this machine, from ../shared/data
e2e-git *options:
    cargo build --release
    python3 tests/bench/git_clients.py target/release/mirror {{options}}

# the same index: first sync, clones and updates beside git itself
bench-git *options:
    cargo build --release
    python3 tests/bench/git_serving.py target/release/mirror {{options}}

# kept files across the air gap, beside tar and sha256sum
bench-air-gap *options:
    cargo build --release
    python3 tests/bench/air_gap.py {{options}}

# a real index and a week of it across the air gap, beside romt if --romt names it
bench-air-gap-week *options:
    cargo build --release
    python3 tests/bench/air_gap_week.py {{options}}

# 2,000 changes of upstream at random, with 200 kills and git clients left behind at old commits
soak-git rounds="2000":
    MIRROR_SOAK_ROUNDS={{rounds}} cargo test --release -p mirror --test soak_git -- --nocapture

# 100,000 downloads through an upstream that does everything wrong that it can
soak-cache downloads="100000":
    MIRROR_CACHE_DOWNLOADS={{downloads}} cargo test --release -p mirror --test soak_cache -- --nocapture

# a year of weekly bundles cut from ../shared/data: what `mirror check` says on both sides, and what cargo fetches in the office
e2e-air-gap weeks="52":
    MIRROR_REPLAY_WEEKS={{weeks}} cargo test --release -p mirror --test air_gap_replay -- --nocapture

# kill -9 at random moments of exports and imports, of commands and servers, and before each call that changes the disk
soak-air-gap kills="100":
    MIRROR_AIR_GAP_KILLS={{kills}} cargo test --release -p mirror --test air_gap kills:: -- --nocapture --test-threads 1
