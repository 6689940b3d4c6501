"""The git clients that this machine has or can get: git, cargos, and libraries of several languages.

Each one clones, and updates what it cloned. `sees` compares what it says it read, if it says that, with what is published.
"""
import json
import shutil
import subprocess
import sys
from pathlib import Path

from git_scene import GIT, LIMIT, git, run
from servers import environment

HERE = Path(__file__).resolve().parent
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
CRATES_INDEX = """[package]
name = "crates-index-client"
version = "0.0.0"
edition = "2021"

[workspace]

[dependencies]
crates-index = { version = "4", default-features = false, features = ["git-https"] }

[profile.dev]
debug = false
"""
# what works through the bytes of a pack
CRATES_INDEX += "".join(
    f"[profile.dev.package.{name}]\nopt-level = 2\n" for name in ("crc32fast", "gix-odb", "gix-pack", "sha1dc", "zlib-rs")
)
TROUBLE = (RuntimeError, OSError, subprocess.TimeoutExpired)


class Client:
    """One that keeps a git repository where it is told to."""

    def repository(self, where):
        return where

    def sees(self, tip, serde):
        """Nothing but its repository can be looked at."""


class Cli(Client):
    """The git command with one version of the protocol; each pack stays as it came."""

    def __init__(self, protocol, *options):
        self.name = " ".join([run(["git", "version"]).replace(" version", ""), f"v{protocol}", *options])
        self.options, self.how = options, ["-c", f"protocol.version={protocol}", "-c", "fetch.unpackLimit=1"]

    def clone(self, url, where):
        git("/", *self.how, "clone", "-q", "--bare", *self.options, url, where)

    def update(self, url, where):
        git(where, *self.how, "fetch", "-q", *self.options, url, "+refs/heads/master:refs/heads/master")


class Cargo(Client):
    """One cargo that resolves a project; its index is in a CARGO_HOME of its own."""

    def __init__(self, words, command, *options, **environs):
        version = run([*command, "--version"], env=environment(**GIT)).split()[1]
        self.name, self.command, self.options, self.environs = f"{words[0]} {version}{words[1]}", command, options, environs

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


class Library(Client):
    """A git of another language, as a program that takes `clone` or `update`, the address and a directory."""

    def __init__(self, name, command, **environs):
        self.name, self.command, self.environs = name, command, environs

    def clone(self, url, where):
        self.said = run([*self.command, "clone", url, where], env=environment(**GIT, **self.environs))

    def update(self, url, where):
        self.said = run([*self.command, "update", url, where], env=environment(**GIT, **self.environs))


class CratesIndex(Library):
    def sees(self, tip, serde):
        assert self.said == f"{tip} {serde}", f"it reads {self.said}, published is {tip} with serde {serde}"


def every_client(directory, built, skip):
    """`directory` is empty; what takes long to build is kept in `built`."""
    return [Cli(0), Cli(1), Cli(2), Cli(2, "--depth=1"), *cargos(skip), *libraries(directory, skip), *crates_index(directory, built, skip)]


def cargos(skip):
    if shutil.which("cargo") is None:
        skip("cargo: not installed")
    else:
        stable = ["cargo", "+stable"] if shutil.which("rustup") else ["cargo"]
        yield Cargo(("cargo", " (libgit2)"), stable, CARGO_NET_GIT_FETCH_WITH_CLI="false")
        yield Cargo(("cargo", " (git)"), stable, CARGO_NET_GIT_FETCH_WITH_CLI="true")
    if "nightly" in (run(["rustup", "toolchain", "list"]) if shutil.which("rustup") else ""):
        nightly = ["cargo", "+nightly"]
        yield Cargo(("cargo", " (gitoxide)"), nightly, "-Zgitoxide=fetch")
        yield Cargo(("cargo", " (gitoxide, shallow)"), nightly, "-Zgitoxide=fetch", "-Zgit=shallow-index")
    else:
        skip("cargo nightly with gitoxide: no nightly toolchain is installed")
    if Path("/usr/bin/cargo").exists():
        # with its own compiler: the one in PATH may be of another age
        yield Cargo(("Debian's cargo", ""), ["/usr/bin/cargo"], RUSTC="/usr/bin/rustc")
        yield Cargo(("Debian's cargo", " (git)"), ["/usr/bin/cargo"], RUSTC="/usr/bin/rustc", CARGO_NET_GIT_FETCH_WITH_CLI="true")
    else:
        skip("Debian's cargo: no /usr/bin/cargo (apt-get install --no-install-recommends cargo)")


def libraries(directory, skip):
    dulwich, isomorphic = directory / "dulwich", directory / "isomorphic"
    isomorphic.mkdir()
    try:
        run([sys.executable, "-m", "pip", "install", "-q", "--target", dulwich, "dulwich"])
        (dulwich / "client.py").write_text(DULWICH)
        (metadata,) = dulwich.glob("dulwich-*.dist-info")
        name = metadata.name.removesuffix(".dist-info").replace("-", " ")
        yield Library(name, [sys.executable, dulwich / "client.py"], PYTHONPATH=str(dulwich))
    except TROUBLE as error:
        skip(f"dulwich: cannot be installed: {str(error)[-200:]}")
    try:
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "isomorphic-git"], cwd=isomorphic)
        (isomorphic / "client.js").write_text(ISOMORPHIC)
        version = json.loads((isomorphic / "node_modules/isomorphic-git/package.json").read_text())["version"]
        yield Library(f"isomorphic-git {version}", ["node", isomorphic / "client.js"])
    except TROUBLE as error:
        skip(f"isomorphic-git: cannot be installed: {str(error)[-200:]}")


def crates_index(directory, built, skip):
    package = directory / "crates-index"
    (package / "src").mkdir(parents=True)
    (package / "Cargo.toml").write_text(CRATES_INDEX)
    shutil.copy(HERE / "crates_index.rs", package / "src/main.rs")
    try:
        run(["cargo", "build", "-q"], cwd=package, env=environment(CARGO_TARGET_DIR=str(built)), timeout=2 * LIMIT)
    except TROUBLE as error:
        return skip(f"crates-index: cannot be built: {str(error)[-400:]}")
    locked = (package / "Cargo.lock").read_text().split('name = "crates-index"\nversion = "')[1]
    yield CratesIndex("crates-index " + locked.split('"')[0], [built / "debug/crates-index-client"])
