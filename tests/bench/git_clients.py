#!/usr/bin/env python3
"""The real index, from a git upstream through the mirror to every git client that this machine has or can get (`just e2e-git`).

Each client clones at the bundle's first commit and updates after 1 and 100 upstream commits, to the last one, after a squash by
upstream and after a restart of the mirror; another copy of it is left behind at the first commit until the last one. Each time
its branch is the mirror's and, for those that are git, `git fsck --strict` is clean; the published tree differs from upstream's by config.json alone.
"""
import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from git_scene import BUNDLE, GIT, Mirror, Upstream, git, run
from servers import environment

MANIFEST = """[package]
name = "wants"
version = "0.1.0"
edition = "2018"

[dependencies]
serde = { version = "1", features = ["derive"] }
rand = "0.7"
tokio = "0.2"
"""
DULWICH = """import sys
from dulwich import porcelain
what, url, where = sys.argv[1:]
if what == "clone":
    porcelain.clone(url, where, bare=True).close()
else:
    porcelain.fetch(where, url)
    from dulwich.repo import Repo
    from dulwich.client import get_transport_and_path
    with Repo(where) as repo:
        client, path = get_transport_and_path(url)
        head = client.fetch(path, repo).refs[b"refs/heads/master"]
        repo.refs[b"refs/heads/master"] = head
"""
ISOMORPHIC = """const git = require("isomorphic-git"), http = require("isomorphic-git/http/node"), fs = require("fs");
const [what, url, gitdir] = process.argv.slice(2);
const common = { fs, http, gitdir, url, ref: "master", singleBranch: true, tags: false };
(async () => {
  if (what == "clone") await git.clone({ ...common, dir: gitdir, noCheckout: true });
  const { fetchHead } = await git.fetch(common);
  await git.writeRef({ fs, gitdir, ref: "refs/heads/master", value: fetchHead, force: true });
})().catch((error) => { console.error(error); process.exit(1); });
"""


class Cli:
    """The git command with one version of the protocol."""

    def __init__(self, protocol, *options):
        self.name = " ".join(["git", f"v{protocol}", *options])
        self.options, self.version = options, f"protocol.version={protocol}"

    def clone(self, url, where):
        git("/", "-c", self.version, "clone", "-q", "--bare", *self.options, url, where)

    def update(self, url, where):
        git(where, "-c", self.version, "fetch", "-q", *self.options, url, "+refs/heads/master:refs/heads/master")

    def repository(self, where):
        return where


class Cargo:
    """One cargo that resolves a project; its index is in a CARGO_HOME of its own."""

    def __init__(self, name, command, *options, **environs):
        self.name, self.command, self.options, self.environs = name, command, options, environs

    def clone(self, url, where):
        (where / "src").mkdir(parents=True)
        (where / "src/lib.rs").write_text("")
        (where / "Cargo.toml").write_text(MANIFEST)
        (where / ".cargo").mkdir()
        source = f'[source.crates-io]\nreplace-with = "m"\n[source.m]\nregistry = "{url}"\n'
        (where / ".cargo/config.toml").write_text(source)
        self.resolve(where, "generate-lockfile")

    def update(self, _, where):
        self.resolve(where, "update")

    def resolve(self, where, subcommand):
        how = environment(**GIT, CARGO_HOME=str(where / "home"), **self.environs)
        run([*self.command, *self.options, subcommand], cwd=where, env=how)
        assert 'name = "serde_derive"' in (where / "Cargo.lock").read_text(), self.name

    def repository(self, where):
        (found,) = (where / "home/registry/index").iterdir()
        return found


class Library:
    """A git of another language, as a script that takes `clone` or `update`, the address and a directory."""

    def __init__(self, name, command, **environs):
        self.name, self.command, self.environs = name, command, environs

    def clone(self, url, where):
        run([*self.command, "clone", url, where], env=environment(**GIT, **self.environs))

    def update(self, url, where):
        run([*self.command, "update", url, where], env=environment(**GIT, **self.environs))

    def repository(self, where):
        return where


def cargos(skip):
    cargo = shutil.which("cargo")
    if cargo is None:
        return skip("cargo: not installed")
    yield Cargo("cargo (libgit2)", ["cargo", "+stable"] if shutil.which("rustup") else ["cargo"], CARGO_NET_GIT_FETCH_WITH_CLI="false")
    yield Cargo("cargo (cli)", ["cargo", "+stable"] if shutil.which("rustup") else ["cargo"], CARGO_NET_GIT_FETCH_WITH_CLI="true")
    toolchains = run(["rustup", "toolchain", "list"]) if shutil.which("rustup") else ""
    if "nightly" in toolchains:
        yield Cargo("cargo nightly (gitoxide)", ["cargo", "+nightly"], "-Zgitoxide=fetch")
        yield Cargo("cargo nightly (gitoxide, shallow)", ["cargo", "+nightly"], "-Zgitoxide=fetch", "-Zgit=shallow-index")
    else:
        skip("cargo nightly with gitoxide: no nightly toolchain is installed")
    if Path("/usr/bin/cargo").exists():
        yield Cargo("Debian's cargo", ["/usr/bin/cargo"])
    else:
        skip("Debian's cargo: /usr/bin/cargo is not there")


def libraries(directory, skip):
    dulwich, isomorphic = directory / "dulwich", directory / "isomorphic"
    isomorphic.mkdir()
    try:
        run([sys.executable, "-m", "pip", "install", "-q", "--target", dulwich, "dulwich"])
        (dulwich / "client.py").write_text(DULWICH)
        yield Library("dulwich", [sys.executable, dulwich / "client.py"], PYTHONPATH=str(dulwich))
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        skip(f"dulwich: cannot be installed: {str(error)[-200:]}")
    try:
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "isomorphic-git"], cwd=isomorphic)
        (isomorphic / "client.js").write_text(ISOMORPHIC)
        yield Library("isomorphic-git", ["node", isomorphic / "client.js"])
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        skip(f"isomorphic-git: cannot be installed: {str(error)[-200:]}")


class Run:
    def __init__(self, binary, directory, only):
        self.failed = []
        self.clients_dir = directory / "clients"
        self.clients_dir.mkdir()
        self.upstream = Upstream(directory / "upstream")
        self.upstream.go_to(self.upstream.commits[0])
        self.mirror = Mirror(binary, self.upstream, directory / "mirror")
        everybody = [Cli(0), Cli(1), Cli(2), Cli(2, "--depth=1"), *cargos(self.skip), *libraries(directory, self.skip)]
        self.clients = [client for client in everybody if only in client.name]

    def skip(self, why):
        print(f"skipped: {why}", flush=True)
        return ()

    def sync(self, commit):
        self.upstream.go_to(commit)
        said = self.mirror.command("sync")
        assert commit in said, said
        print("  sync:", said.splitlines()[0], flush=True)
        self.tip = git(self.mirror.repository, "rev-parse", "refs/heads/master")
        objects = str(self.upstream.repository / "objects")
        differs = git(
            self.mirror.repository, "diff-tree", "-r", "--name-only", commit, self.tip, GIT_ALTERNATE_OBJECT_DIRECTORIES=objects
        )
        assert differs == "config.json", f"the trees differ in {differs[:500]}"

    def try_all(self, step, suffix=""):
        for number, client in enumerate(self.clients):
            where = self.clients_dir / f"{number}{suffix}"
            began = time.monotonic()
            try:
                (client.update if where.exists() else client.clone)(self.mirror.url, where)
                took = time.monotonic() - began
                self.check(client.repository(where))
                print(f"  {step}, {client.name}: {took:.1f} s", flush=True)
            except Exception as error:  # noqa: BLE001 - the others are to be tried as well
                self.failed.append(f"{step}, {client.name}")
                print(f"  FAILED: {step}, {client.name}: {error}", flush=True)

    def check(self, repository):
        names = ("refs/heads/master", "refs/remotes/origin/master", "refs/remotes/origin/HEAD", "FETCH_HEAD", "HEAD")
        known = [git(repository, "for-each-ref", "--format=%(objectname)"), *self.resolved(repository, names)]
        assert any(self.tip in text for text in known), f"does not have {self.tip}: {known}"
        git(repository, "fsck", "--strict", "--no-dangling")

    def resolved(self, repository, names):
        for name in names:
            done = subprocess.run(["git", "-C", repository, "rev-parse", "-q", "--verify", name], capture_output=True, text=True)
            yield done.stdout.strip()

    def everything(self):
        commits = self.upstream.commits
        self.sync(commits[0])
        self.try_all("clone")
        self.try_all("clone to be left behind", "-left")
        for position, words in ((1, "1 commit later"), (101, "100 commits later"), (len(commits) - 1, "at the last commit")):
            self.sync(commits[position])
            self.try_all(words)
        self.try_all(f"left behind by {len(commits) - 1} commits", "-left")
        self.sync(self.upstream.squash())
        self.try_all("after a squash by upstream")
        self.mirror.restart()
        self.try_all("after a restart of the mirror")
        self.sync(commits[-2])
        self.try_all("one commit after the restart")
        self.unshallow()
        print(self.mirror.command("verify", "--against-upstream"))

    def unshallow(self):
        for protocol in (0, 1, 2):
            where = self.clients_dir / f"unshallow-{protocol}"
            git("/", "-c", f"protocol.version={protocol}", "clone", "-q", "--bare", "--depth=1", self.mirror.url, where)
            git(where, "-c", f"protocol.version={protocol}", "fetch", "-q", "--unshallow")
            wanted, got = (git(at, "rev-list", "--count", "master") for at in (self.mirror.repository, where))
            assert wanted == got, f"{got} commits of {wanted}"
            self.check(where)
            print(f"  unshallow, git v{protocol}: {got} commits")

    def end(self):
        self.mirror.server.end()
        self.upstream.server.end()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary", type=Path)
    arguments.add_argument("--only", default="", help="clients whose names have this in them")
    options = arguments.parse_args()
    if not BUNDLE.exists():
        print(f"skipped: {BUNDLE} is not there (BENCH_DATA names its directory)")
        return
    with tempfile.TemporaryDirectory(prefix="mirror-e2e-git-") as directory:
        run_ = Run(options.binary.resolve(), Path(directory), options.only)
        try:
            run_.everything()
        finally:
            run_.end()
    if run_.failed:
        raise SystemExit(f"{len(run_.failed)} failed: " + "; ".join(run_.failed))
    print("all is well")


if __name__ == "__main__":
    main()
