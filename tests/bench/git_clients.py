#!/usr/bin/env python3
"""The real index, from a git upstream through the mirror to every git client that this machine has or can get (`just e2e-git`).

Each client clones at the bundle's first commit and updates after 1 and 100 upstream commits, to the last one, after a squash by
upstream, a restart of the mirror, and a squash of the mirror's own history. Copies of it are left behind: one at the first commit until the last one and
from there until after the mirror's squash, one at the second until then. Each time its branch is the mirror's and, as git sees it, `git fsck --strict` is
clean; git is sent nothing that it had; the published tree differs from upstream's by config.json alone.
"""
import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from git_client_programs import Cli, every_client
from git_scene import BUNDLE, GIT, LIMIT, Mirror, Upstream, git, light, run, weighty
from servers import environment

WEIGHT = 16  # MiB of one index file that upstream replaces until the mirror drops its history
TIMES = 12  # that are more than enough
LEFT, BEHIND = "-left", "-behind"


def objects(repository):
    return set(git(repository, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())


def packs(repository):
    return set((repository / "objects/pack").glob("*.pack"))


def objects_of(pack):
    with pack.with_suffix(".idx").open("rb") as index:
        return {line.split()[1] for line in run(["git", "show-index"], stdin=index).splitlines()}


class Run:
    def __init__(self, binary, directory, only):
        self.failed = []
        self.clients_dir = directory / "clients"
        self.clients_dir.mkdir()
        # what has to be built is built before anything is timed
        everybody = every_client(directory, binary.parent / "crates-index-client", self.skip)
        self.clients = [client for client in everybody if only in client.name]
        self.upstream = Upstream(directory / "upstream")
        self.upstream.go_to(self.upstream.commits[0])
        self.mirror = Mirror(binary, self.upstream, directory / "mirror")

    def skip(self, why):
        print(f"skipped: {why}", flush=True)
        return ()

    def sync(self, commit):
        self.upstream.go_to(commit)
        said = self.mirror.command("sync")
        assert commit in said, said
        print("  sync:", said.splitlines()[0], flush=True)
        self.tip = git(self.mirror.repository, "rev-parse", "refs/heads/master")
        self.serde = json.loads(git(self.mirror.repository, "show", "master:se/rd/serde").splitlines()[-1])["vers"]
        alternates = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self.upstream.repository / "objects")}
        differs = git(self.mirror.repository, "diff-tree", "-r", "--name-only", commit, self.tip, **alternates)
        assert differs == "config.json", f"the trees differ in {differs[:500]}"

    def try_all(self, step, suffix=""):
        for number, client in enumerate(self.clients):
            where = self.clients_dir / f"{number}{suffix}"
            began = time.monotonic()
            try:
                sent = self.update(client, where) if where.exists() else client.clone(self.mirror.url, where) or ""
                took = time.monotonic() - began
                self.check(client.repository(where))
                client.sees(self.tip, self.serde)
                print(f"  {step}, {client.name}: {took:.1f} s{sent}", flush=True)
            except Exception as error:  # noqa: BLE001 - the others are to be tried as well
                self.failed.append(f"{step}, {client.name}")
                print(f"  FAILED: {step}, {client.name}: {error}", flush=True)

    def update(self, client, where):
        """Gives what it was sent, of git."""
        if not isinstance(client, Cli):
            client.update(self.mirror.url, where)
            return ""
        had, had_packs = objects(where), packs(where)
        client.update(self.mirror.url, where)
        new_packs = packs(where) - had_packs
        sent = set().union(*map(objects_of, new_packs))
        assert not sent & had, f"{len(sent & had)} objects were sent that it had"
        whole = git(self.mirror.repository, "rev-list", "--objects", "--no-object-names", "--max-count=1", self.tip)
        needed = set(whole.split()) - had
        assert needed <= sent, f"{len(needed - sent)} objects were not sent"
        sizes = ["git", "-C", where, "cat-file", "--batch-check=%(objectsize:disk)"]
        needed_size = sum(map(int, run(sizes, input="\n".join(needed)).split())) if needed else 0
        size = sum(pack.stat().st_size for pack in new_packs)
        newest = f"{len(needed)} in {needed_size / 1000:.0f} KB are of the newest tree"
        return f", {len(sent)} objects that it lacked in {size / 1000:.0f} KB; {newest}"

    def leave_behind(self, suffix):
        """Copies of the clients as they are now."""
        for number, _ in enumerate(self.clients):
            if (self.clients_dir / str(number)).exists():
                shutil.copytree(self.clients_dir / str(number), self.clients_dir / f"{number}{suffix}", symlinks=True)

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
        self.leave_behind(LEFT)
        self.sync(commits[1])
        self.try_all("1 commit later")
        self.leave_behind(BEHIND)
        for position, words in ((101, "100 commits later"), (len(commits) - 1, "at the last commit")):
            self.sync(commits[position])
            self.try_all(words)
        self.try_all(f"left behind by {len(commits) - 1} commits", LEFT)
        self.sync(self.upstream.squash())
        self.try_all("after a squash by upstream")
        self.mirror.restart()
        self.try_all("after a restart of the mirror")
        self.sync(commits[-2])
        self.try_all("one commit after the restart")
        self.squash_of_our_own()
        self.unshallow()
        print(self.mirror.command("verify", "--against-upstream"))

    def squash_of_our_own(self):
        root = self.root()
        for number in range(TIMES):
            self.sync(self.upstream.add("we/ig/weighty", weighty(WEIGHT)))
            # upkeep goes on when a sync is over, and is over when the next commit is published
            self.sync(self.upstream.add("li/gh/light", light(number)))
            if self.root() != root:
                break
        assert self.root() != root, "the mirror has kept its whole history"
        # the pack log is put in order behind a squash; until then clients are given what was published before
        began = time.monotonic()
        while not git(self.mirror.repository, "ls-remote", self.mirror.url, "refs/heads/master").startswith(self.tip):
            assert time.monotonic() - began < LIMIT, "the published commit is not served"
            time.sleep(0.05)
        print(f"  clients are given it {time.monotonic() - began:.1f} s later", flush=True)
        message = git(self.mirror.repository, "show", "-s", "--format=%B", self.root())
        assert "Replaces: " in message, message
        print(f"  the mirror has squashed: root {root} became {self.root()}", flush=True)
        self.try_all("after the mirror's squash")
        self.mirror.restart()
        self.try_all("left behind at the last commit, after the mirror's squash and a restart", LEFT)
        self.try_all("left behind at the second commit, after the mirror's squash and a restart", BEHIND)
        self.sync(self.upstream.add("li/gh/light", light(TIMES)))
        for suffix in ("", LEFT, BEHIND):
            self.try_all(f"one commit after the mirror's squash{suffix.replace('-', ', once ')}", suffix)

    def root(self):
        return git(self.mirror.repository, "rev-list", "--max-parents=0", "master")

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
