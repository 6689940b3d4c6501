#!/usr/bin/env python3
"""A first bundle with a whole real index, and the bundle of a week later, beside romt (`just bench-air-gap-week`).

The index is that of `../shared/data` (or of the directory that BENCH_DATA names), with the checksums of made-up crate files in
place of those that are kept. Between the two bundles upstream makes 1,000 commits, and 300 of the new versions are fetched.
romt gets the same index and the same crate files, all from 127.0.0.1: --romt names its program, and without it is left out.
The crate files are random bytes, or with --crates DIR real ones, of which gzip takes a little off once more.
"""
import functools
import hashlib
import http.server
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from air_gap import Offline, Used, arguments, crate_file, sizes, spread, until_idle
from git_scene import BUNDLE, GIT, Mirror, Upstream, git, start_backend
from servers import environment

KEPT, NEW, AVERAGE = 1000, 300, 60_000
CHECKSUM = re.compile(rb'"cksum":"([0-9a-f]{64})"')


def new_lines(repository, since, to):
    """The index lines that came, changed ones included."""
    changes = git(repository, "diff", "--no-renames", "-U0", since, to).splitlines()
    return [line[1:] for line in changes if line.startswith("+{")], [line[1:] for line in changes if line.startswith("-{")]


def versions(lines):
    return {(line["name"], line["vers"]): line["cksum"] for line in map(json.loads, lines)}


class Files:
    """Made-up crate files in place of real ones, on a server of their own."""

    def __init__(self, directory, pool):
        self.directory, self.pool, self.instead = directory, pool, {}

    def make(self, chosen, seed):
        """{(name, version): checksum} in, the bytes of their files out."""
        chance, total = random.Random(seed), 0
        for ((name, version), real), size in zip(sorted(chosen.items()), sizes(chance, len(chosen), len(chosen) * AVERAGE)):
            if self.pool:
                content = self.pool.pop()
            else:
                content = crate_file(name, version, chance.randbytes(size), 6)
            path = self.directory / name / version / "download"
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            self.instead[real.encode()] = hashlib.sha256(content).hexdigest().encode()
            total += len(content)
        return total

    def serve(self):
        handler = functools.partial(Quiet, directory=str(self.directory))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        # clients that end early are no matter
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return "http://127.0.0.1:%d" % self.server.server_address[1]


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


class Rewritten(Upstream):
    """The same commits, with the checksums of our files."""

    def __init__(self, directory, real, instead):
        self.repository = directory / "index.git"
        directory.mkdir()
        git(directory, "init", "-q", "--bare", "-b", "master", self.repository)
        export = subprocess.Popen(["git", "-C", real, "fast-export", "master"], stdout=subprocess.PIPE)
        command = ["git", "-C", self.repository, "fast-import", "--quiet"]
        importing = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(**GIT))
        for line in export.stdout:
            # as long as before, so the lengths in the stream stay right
            replaced = CHECKSUM.sub(lambda found: b'"cksum":"' + instead.get(found[1], found[1]) + b'"', line)
            importing.stdin.write(replaced)
        importing.stdin.close()
        if export.wait() or importing.wait():
            raise SystemExit("the index could not be rewritten")
        self.commits = git(self.repository, "rev-list", "--reverse", "master").split()
        self.server = start_backend(directory, directory / "log")
        self.url = f"http://{self.server.address}/index.git"


class Scene:
    """Upstream, its files, and what is kept when."""

    def __init__(self, directory, pool):
        self.directory, self.kept = directory, len(pool) - NEW if pool else KEPT
        real = directory / "real.git"
        git(directory, "clone", "-q", "--bare", BUNDLE, real)
        commits = git(real, "rev-list", "--reverse", "master").split()
        added, gone = new_lines(real, commits[0], commits[-1])
        chance = random.Random(47)
        came = {key: line for key, line in versions(added).items() if key not in versions(gone)}
        new = dict(chance.sample(sorted(came.items()), NEW))
        paths = [path for path in git(real, "ls-tree", "-r", "--name-only", commits[0]).splitlines() if "/" in path]
        kept = {}
        for path in chance.sample(paths, self.kept):
            newest = git(real, "show", f"{commits[0]}:{path}").splitlines()[-1]
            kept.update(versions([newest]))
        self.files = Files(directory / "files", pool)
        self.kept_bytes, self.new_bytes = self.files.make(kept, 1), self.files.make(new, 2)
        self.upstream = Rewritten(directory / "upstream", real, self.files.instead)
        shutil.rmtree(real)
        self.address = self.files.serve()
        self.before, self.after = self.upstream.commits[0], self.upstream.commits[-1]
        self.line_bytes = sum(len(line.encode()) + 1 for line in new_lines(self.upstream.repository, self.before, self.after)[0])
        self.lists = {}
        for what, chosen in (("kept", kept), ("new", new)):
            self.lists[what] = sorted(chosen)

    def list_of(self, what, lower=False):
        """A file with NAME@VERSION on each line; romt compares with the name of the index file."""
        path = self.directory / f"{what}{lower}.txt"
        chosen = [version for key in what.split("-") for version in self.lists[key]]
        path.write_text("".join(f"{name.lower() if lower else name}@{version}\n" for name, version in chosen))
        return path


class Ours:
    """Both bundles by the mirror, and offices that import them."""

    name = "mirror"

    def __init__(self, options, scene, directory):
        directory.mkdir()
        self.options, self.scene, self.directory = options, scene, directory
        self.outside = Mirror(options.mirror, scene.upstream, directory / "outside", MIRROR_UPSTREAM__DOWNLOAD=scene.address)
        self.bundles = directory / "first.tar", directory / "week.tar"

    def export(self, number):
        """(Used) of writing the bundle, after all of it was fetched."""
        self.outside.command("sync")
        self.outside.command("prefetch", "--list", self.scene.list_of(("kept", "new")[number]))
        # anew, so that its memory is that of the export
        self.outside.restart()
        until_idle(self.outside.server)
        more = [["--since", self.bundles[0]], []][number == 0]
        command = [self.options.mirror, "export", "-o", self.bundles[number], *more]
        with (self.directory / "said").open("a") as said:
            used = Used().run(command, self.outside.server, env=self.outside.settings, stdout=said, stderr=said)
            return used.run(["sync", self.bundles[number]])

    def import_all(self):
        """(Used) of the first bundle and of the second, into an office that had nothing."""
        folder = self.directory / "office"
        (folder / "data").mkdir(parents=True)
        office = Offline(self.options.mirror, folder / "data", self.directory / "office.log").start()
        key = self.outside.directory / "data/keys/mirror.pub"
        try:
            both = []
            for bundle in self.bundles:
                used = office.run(Used(), "import", bundle, "--trust", key)
                both.append(used.run(["sync", "-f", folder]))
                until_idle(office.server)
            office.wait_for(self.scene.kept + NEW)
            got = git(folder / "data/index.git", "ls-tree", "-r", "master").splitlines()
            self.same_index(got)
        finally:
            office.server.end()
        shutil.rmtree(folder)
        return both

    def same_index(self, got):
        """Upstream's files to the byte."""
        wanted = git(self.scene.upstream.repository, "ls-tree", "-r", self.scene.after).splitlines()
        differ = [line for line in set(got) ^ set(wanted) if "/" in line.split("\t")[1]]
        assert not differ, differ[:5]

    def end(self):
        self.outside.server.end()


class Romt:
    """The same by romt; its archive is compressed by gzip unless its name says otherwise."""

    def __init__(self, options, scene, directory, ending):
        directory.mkdir()
        self.name = f"romt, {ending}"
        self.options, self.scene, self.directory = options, scene, directory
        self.bundles = directory / f"first.{ending}", directory / f"week.{ending}"
        (directory / "outside").mkdir()
        self.run(Used(), "outside", "init", "--index-url", scene.upstream.url)

    def run(self, used, where, *words):
        command = [self.options.romt, "crate", *words, "--crates-url", self.scene.address + "/{crate}/{version}/download"]
        with (self.directory / "said").open("a") as said:
            return used.run(command, cwd=self.directory / where, env=environment(**GIT), stdout=said, stderr=said)

    def filter_of(self, number):
        return ["--filter-file", self.scene.list_of(("kept", "kept-new")[number], lower=True)]

    def export(self, number):
        archive = self.bundles[number]
        self.run(Used(), "outside", "pull", "prune", "download", *self.filter_of(number))
        used = self.run(Used(), "outside", "pack", "--archive", archive, *self.filter_of(number))
        used.run(["sync", archive])
        self.run(Used(), "outside", "mark")
        return used

    def import_all(self):
        folder = self.directory / "office"
        folder.mkdir()
        self.run(Used(), "office", "init-import")
        both = []
        for number, bundle in enumerate(self.bundles):
            used = self.run(Used(), "office", "import", "--archive", bundle, *self.filter_of(number))
            both.append(used.run(["sync", "-f", folder]))
        files = sum(1 for _ in folder.glob("crates/*/**/*.crate"))
        assert files == self.scene.kept + NEW, f"{files} files came"
        shutil.rmtree(folder)
        return both

    def end(self):
        pass


def pool_of(options):
    """Contents, each once."""
    files = sorted(options.crates.glob("**/*.crate")) if options.crates else []
    pool = list({file.read_bytes() for file in files})[: KEPT + NEW]
    if files and len(pool) <= NEW:
        raise SystemExit(f"{options.crates} has {len(pool)} crate files; more than {NEW} are needed")
    return pool


def row(name, bundle, what, used):
    print(f"| {name} | {bundle} | {what} | {used.wall:.2f} | {used.cpu:.2f} | {used.memory()} | {os.getloadavg()[0]:.1f} |", flush=True)


def exports(scene, parties):
    print("| by | bundle | | wall s | CPU s | most MiB, command and server | load |\n|---|---|---|---|---|---|---|")
    for number, commit in enumerate((scene.before, scene.after)):
        scene.upstream.go_to(commit)
        for party in parties:
            row(party.name, ("first", "week")[number], "export", party.export(number))


def imports(options, parties):
    walls = {party.name: ([], []) for party in parties}
    for turn in range(options.runs):
        for party in (parties, parties[::-1])[turn % 2]:
            subprocess.run(["sync", "-f", party.directory], check=True)
            for number, used in enumerate(party.import_all()):
                row(party.name, ("first", "week")[number], "import", used)
                walls[party.name][number].append(used)
    for number, bundle in enumerate(("first", "week")):
        for party in parties[1:]:
            pairs = list(zip(walls[parties[0].name][number], walls[party.name][number]))
            wall, cpu = spread([a.wall / b.wall for a, b in pairs]), spread([a.cpu / b.cpu for a, b in pairs])
            print(f"\nimport of the {bundle} bundle: wall {wall}, CPU {cpu} of {party.name}'s")


def bytes_of(scene, parties):
    print("\n| by | first bundle, bytes | week, bytes | week: of files and changed lines |\n|---|---|---|---|")
    least = scene.new_bytes + scene.line_bytes
    print(f"| crate files alone; week: with changed index lines | {scene.kept_bytes:,} | {least:,} | 1 |")
    for party in parties:
        first, week = (bundle.stat().st_size for bundle in party.bundles)
        print(f"| {party.name} | {first:,} | {week:,} | {week / least:.4f} |")
    print(f"\nthe week: {NEW} files of {scene.new_bytes:,} bytes, {scene.line_bytes:,} bytes of changed index lines, 1,000 commits")


def main():
    given = arguments(__doc__)
    given.add_argument("--romt", type=Path, default=shutil.which("romt"), help="romt's program [default: from PATH]")
    given.add_argument("--crates", type=Path, metavar="DIR", help="take the crate files below this folder, such as cargo's registry/cache")
    options = given.parse_args()
    options.mirror = options.mirror.resolve()
    if not BUNDLE.exists():
        print(f"skipped: {BUNDLE} is not there (BENCH_DATA names its directory)")
        return
    print(f"load {os.getloadavg()[0]:.1f} at the start\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="mirror-bench-air-gap-", dir=options.scratch) as scratch:
        directory, parties = Path(scratch), []
        scene = Scene(directory, pool_of(options))
        try:
            scene.upstream.go_to(scene.before)
            parties.append(Ours(options, scene, directory / "ours"))
            if options.romt:
                options.romt = Path(options.romt).absolute()
                parties += [Romt(options, scene, directory / ending, ending) for ending in ("tar.gz", "tar")]
            else:
                print("romt is not here: `pip install romt` into an environment of its own, and --romt\n")
            exports(scene, parties)
            imports(options, parties)
            bytes_of(scene, parties)
        finally:
            scene.upstream.server.end()
            for party in parties:
                party.end()


if __name__ == "__main__":
    main()
