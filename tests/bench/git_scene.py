"""A real index as upstream, moved along commit by commit, and a mirror that follows it."""
import json
import os
import subprocess
import sys
from pathlib import Path

from servers import Server, environment, free_port

HERE = Path(__file__).resolve().parent
BUNDLE = Path(os.environ.get("BENCH_DATA") or HERE.parents[2] / "shared/data") / "crates-index-2020-03.bundle"
SAID = "listening on http://"
LIMIT = 600  # seconds that one command may take
GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
GIT.update({f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")})


def run(command, **how):
    """What it prints; an exception with all it said if it fails."""
    how = {"env": environment(**GIT), "timeout": LIMIT, **how}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **how)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def git(where, *arguments, **more):
    return run(["git", "-C", where, "-c", "gc.auto=0", "-c", "maintenance.auto=false", *arguments], env=environment(**GIT, **more))


def start_backend(root, log):
    """A git http-backend for the repositories below `root`."""
    backend = Server([sys.executable, str(HERE / "git_backend.py"), str(root)], log, env=environment(**GIT))
    backend.wait_until(lambda: SAID in log.read_text())
    backend.address = log.read_text().split(SAID, 1)[1].split()[0]
    return backend


def weighty(versions):
    """An index file of so many versions, a MiB each, of which a pack keeps more than half: another one each time."""
    return "".join(line("weighty", number, os.urandom(1 << 19).hex()) for number in range(versions))


def light(number):
    return line("light", number, "light")


def line(name, number, feature):
    fields = {"name": name, "vers": f"0.{number}.0", "deps": [], "cksum": f"{number:064x}", "features": {"f": [feature]}, "yanked": False}
    return json.dumps(fields, separators=(",", ":")) + "\n"


class Upstream:
    """The 1,001 commits of the bundle, oldest first in `commits`."""

    def __init__(self, directory):
        directory.mkdir()
        self.repository = directory / "index.git"
        git(directory, "clone", "-q", "--bare", BUNDLE, self.repository)
        self.commits = git(self.repository, "rev-list", "--reverse", "master").split()
        self.server = start_backend(directory, directory / "log")
        self.url = f"http://{self.server.address}/index.git"

    def go_to(self, commit):
        git(self.repository, "update-ref", "refs/heads/master", commit)

    def add(self, path, text):
        """Goes to a commit with this index file, and gives it."""
        made_in = {"GIT_INDEX_FILE": str(self.repository / "index-of-add")}
        content = self.repository / "content-of-add"
        content.write_text(text)
        git(self.repository, "read-tree", "master", **made_in)
        blob = git(self.repository, "hash-object", "-w", content)
        git(self.repository, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", **made_in)
        tree = git(self.repository, "write-tree", **made_in)
        commit = git(self.repository, "commit-tree", tree, "-p", "master", "-m", f"Add {path}")
        self.go_to(commit)
        return commit

    def squash(self):
        commit = git(self.repository, "commit-tree", "master^{tree}", "-m", "Collapse index into one commit")
        self.go_to(commit)
        return commit


class Mirror:
    """A mirror of `upstream` that syncs when it is told to, with its data in `directory`."""

    def __init__(self, binary, upstream, directory, **settings):
        directory.mkdir()
        # not port 0: the published config.json names the address, and clients that come by another are refused
        self.binary, self.directory, self.address = binary, directory, f"127.0.0.1:{free_port()}"
        own = {
            "MIRROR_UPSTREAM__SPARSE": "",
            "MIRROR_UPSTREAM__GIT": upstream.url,
            "MIRROR_DATA_DIR": str(directory / "data"),
            "MIRROR_INDEX__SYNC_INTERVAL": "24h",
        }
        self.settings = environment(**{**own, **settings})
        self.start()

    def start(self):
        """On the address it had, since its config.json names it."""
        log = self.directory / "log"
        command = [str(self.binary), "serve", "--listen", self.address]
        self.server = Server(command, log, cwd=self.directory, env=self.settings)
        self.server.wait_until(lambda: SAID in log.read_text())
        self.url = f"http://{self.address}/git/index"

    def restart(self):
        self.server.end()
        self.start()

    def command(self, *arguments):
        return run([self.binary, *arguments], env=self.settings, cwd=self.directory)

    @property
    def repository(self):
        return self.directory / "data/index.git"
