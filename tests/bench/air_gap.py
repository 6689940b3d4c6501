#!/usr/bin/env python3
"""What it takes to carry kept files across the air gap (`just bench-air-gap`), beside tar and sha256sum.

Lays made-up crate files into the data directory of an outside mirror, with an index that lists them, and has the mirror adopt
them. Then, in turn: `mirror export` and `tar cf` with `sha256sum` of the same files, each until the file is on the disk; and
`mirror import` into an empty office and `tar xf` with `sha256sum -c` of the same bundle, each until the file system is synced.
"""
import argparse
import gzip
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

from made_up_registry import index_line, prefix
from servers import Server, environment, free_port

MIB = 1 << 20
FILES_PER_GB = 12_000
SMALLEST, LARGEST = 5_000, 10_000_000
VERSIONS = 10  # of each crate
ADOPTED_WITHIN = 1800  # seconds


def crate_file(name, version, padding, level=0):
    """A .crate of about as many bytes as `padding` has, which does not compress."""
    manifest = f'[package]\nname = "{name}"\nversion = "{version}"\nedition = "2021"\ndescription = "Made up"\n'
    raw = BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in (("Cargo.toml", manifest.encode()), ("padding.bin", padding)):
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, BytesIO(data))
    return gzip.compress(raw.getvalue(), level, mtime=0)


def sizes(chance, files, total, sigma=1.55):
    """Most are small, a few make up half of the bytes."""
    weights = [chance.lognormvariate(0, sigma) for _ in range(files)]
    each = total / sum(weights)
    return [int(min(max(weight * each, SMALLEST), LARGEST)) for weight in weights]


class Used:
    """Wall seconds, CPU seconds and the most memory of commands, and of a server that works for them."""

    def __init__(self):
        self.wall = self.cpu = 0.0
        self.peak = self.server_peak = self.server_own = 0

    def run(self, command, server=None, **how):
        before = server.cpu_seconds() if server else 0
        began = time.monotonic()
        child = subprocess.Popen([str(word) for word in command], **{"stdin": subprocess.DEVNULL, **how})
        watching = threading.Thread(target=self.watch, args=(child.pid, server))
        watching.start()
        _, status, usage = os.wait4(child.pid, 0)
        self.wall += time.monotonic() - began
        watching.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{command}: {child.returncode}")
        self.cpu += usage.ru_utime + usage.ru_stime
        if server:
            self.cpu += server.cpu_seconds() - before
            self.server_peak = max(self.server_peak, server.most_resident())
        return self

    def watch(self, pid, server):
        """Not by rusage: that counts this Python too, which the child was for a moment."""
        try:
            while True:
                self.peak = max(self.peak, memory(pid, "VmHWM"))
                if server:
                    self.server_own = max(self.server_own, memory(server.process.pid, "RssAnon"))
                time.sleep(0.005)
        except (OSError, IndexError):
            pass  # has ended

    def memory(self):
        if self.server_peak:
            return f"{self.peak} and {self.server_peak} ({self.server_own} without mapped files)"
        return f"{self.peak}"


def memory(pid, what):
    """MiB."""
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{what}:")[1].split()[0]) >> 10


def lay_out(data, gigabytes):
    """Blobs and the index that lists them, as a restored backup has them. Gives the checksums and a name and version."""
    chance = random.Random(5)
    block = chance.randbytes(LARGEST + 64 * MIB)
    for folder in range(256):
        (data / "blobs" / f"{folder:02x}").mkdir(parents=True)
    index = data / "index.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "master", str(index)], check=True)
    importing = subprocess.Popen(["git", "--git-dir", str(index), "fast-import", "--quiet"], stdin=subprocess.PIPE)
    out = importing.stdin
    out.write(b"commit refs/heads/master\ncommitter bench <bench@localhost> 1 +0000\ndata 5\nindex\n")
    checksums, lines = [], []
    files = int(FILES_PER_GB * gigabytes)
    for number, size in enumerate(sizes(chance, files, gigabytes * 1e9)):
        letters = "".join(chr(ord("a") + byte % 26) for byte in hashlib.md5(str(number // VERSIONS).encode()).digest()[:4])
        name, version = f"{letters}-made-up-{number // VERSIONS:05}", f"1.{number % VERSIONS}.0"
        start = chance.randrange(64 * MIB)
        content = crate_file(name, version, block[start : start + size])
        checksum = hashlib.sha256(content).hexdigest()
        (data / "blobs" / checksum[:2] / checksum).write_bytes(content)
        checksums.append(checksum)
        lines.append(index_line(name, version, [], checksum))
        if len(lines) == VERSIONS or number == files - 1:
            text = "".join(lines).encode()
            out.write(f"M 100644 inline {prefix(name)}/{name}\ndata {len(text)}\n".encode() + text + b"\n")
            lines = []
    out.close()
    if importing.wait() != 0:
        raise SystemExit("git fast-import failed")
    return checksums, (name, version)


def until_idle(server):
    """What it does in the background is done: search, statistics, what git clients are sent."""
    while True:
        before = server.cpu_seconds()
        time.sleep(1)
        if server.cpu_seconds() - before < 0.03:
            return


class Offline:
    """A mirror that asks nobody, and its commands."""

    def __init__(self, binary, data, log):
        self.binary, self.data, self.log = binary, data, log
        self.settings = environment(
            MIRROR_DATA_DIR=str(data), MIRROR_UPSTREAM__SPARSE="", MIRROR_UPSTREAM__GIT="", MIRROR_MODE="offline"
        )

    def start(self):
        self.address = f"127.0.0.1:{free_port()}"
        command = [str(self.binary), "serve", "--listen", self.address]
        self.server = Server(command, self.log, cwd=self.data.parent, env=self.settings)
        self.server.wait_until(self.answers)
        return self

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=60) as answer:
            return answer.read()

    def answers(self):
        try:
            return bool(self.get("/healthz"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def kept(self):
        return int(self.get("/metrics").decode().split("\nmirror_kept_files ")[1].split()[0])

    def wait_for(self, files):
        until = time.monotonic() + ADOPTED_WITHIN
        while (kept := self.kept()) < files:
            if time.monotonic() > until:
                raise SystemExit(f"{kept} of {files} files are kept\n{self.log.read_text()[-2000:]}")
            time.sleep(0.5)

    def run(self, used, *arguments):
        """With the server's share, if it runs."""
        command = [self.binary, *arguments]
        server = getattr(self, "server", None)
        with open(self.log.with_suffix(".said"), "a") as said:
            return used.run(command, server, env=self.settings, cwd=self.data.parent, stdout=said, stderr=said)


class Bench:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.outside = Offline(options.mirror, directory / "outside/data", directory / "outside.log")
        self.bundle = directory / "bundle.tar"
        self.rows, self.recording = {}, []

    def prepare(self):
        self.checksums, self.known = lay_out(self.outside.data, self.options.gb)
        self.names = self.directory / "names"
        self.names.write_text("".join(f"{checksum[:2]}/{checksum}\n" for checksum in sorted(self.checksums)))
        self.outside.start().wait_for(len(self.checksums))
        self.outside.server.end()
        # anew, so that its memory is that of the export
        until_idle(self.outside.start().server)
        paths = (self.outside.data / "blobs" / line for line in self.names.read_text().split())
        self.bytes = sum(path.stat().st_size for path in paths)
        print(f"{len(self.checksums)} crate files, {self.bytes / 1e9:.2f} GB\n", flush=True)

    def settle(self):
        """Nothing of what went before is still on its way to the disk; with --cold, the files are read from there."""
        subprocess.run(["sync", "-f", self.directory], check=True)
        if self.options.cold:
            for folder in (self.outside.data / "blobs", self.directory):
                for path in folder.rglob("*") if folder.name == "blobs" else folder.glob("bundle.tar"):
                    if path.is_file():
                        with path.open("rb") as file:
                            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def tar_export(self):
        blobs, archive = self.outside.data / "blobs", self.directory / "by-hand.tar"
        self.settle()
        used = Used().run(["tar", "-cf", archive, "-T", self.names], cwd=blobs)
        with (self.directory / "sums").open("w") as sums:
            used.run(["xargs", "-a", self.names, "sha256sum"], cwd=blobs, stdout=sums)
        used.run(["sync", archive])
        archive.unlink()
        return used

    def mirror_export(self):
        self.bundle.unlink(missing_ok=True)
        self.settle()
        used = self.outside.run(Used(), "export", "-o", self.bundle)
        return used.run(["sync", self.bundle])

    def tar_import(self):
        target = self.directory / "by-hand"
        target.mkdir()
        self.settle()
        used = Used().run(["tar", "-xf", self.bundle], cwd=target)
        used.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=target)
        used.run(["sync", "-f", target])
        shutil.rmtree(target)
        return used

    def mirror_import(self):
        folder = self.directory / "office"
        (folder / "data").mkdir(parents=True)
        office = Offline(self.options.mirror, folder / "data", self.directory / "office.log").start()
        try:
            self.settle()
            used = office.run(Used(), "import", self.bundle, "--trust", self.outside.data / "keys/mirror.pub")
            used.run(["sync", "-f", folder])
            name, version = self.known
            assert hashlib.sha256(office.get(f"/api/v1/crates/{name}/{version}/download")).hexdigest() in self.checksums
            came, cpu = time.monotonic(), office.server.cpu_seconds()
            # they are served already; search and statistics hear of them in the background
            office.wait_for(len(self.checksums))
            self.recording.append((time.monotonic() - came, office.server.cpu_seconds() - cpu, office.server.most_resident()))
        finally:
            office.server.end()
        shutil.rmtree(folder)
        return used

    def measure(self, what, ours, peer):
        """In turn, and the ratio of each pair."""
        ratios = []
        for number in range(self.options.runs):
            pair = {}
            for who in ([ours, peer], [peer, ours])[number % 2]:
                pair[who] = used = who()
                name = who.__name__.replace("_", " ")
                print(f"| {name} | {used.wall:.1f} | {used.cpu:.1f} | {used.memory()} | {os.getloadavg()[0]:.1f} |", flush=True)
            ratios.append((pair[ours].wall / pair[peer].wall, pair[ours].cpu / pair[peer].cpu))
        walls, cpus = zip(*ratios)
        self.rows[what] = f"{what}: wall {spread(walls)}, CPU {spread(cpus)} of the peer's"

    def all(self):
        print("| | wall s | CPU s | most MiB, command and server | load |\n|---|---|---|---|---|")
        # the bundle that is imported is the last one exported
        self.measure("export", self.mirror_export, self.tar_export)
        self.measure("import", self.mirror_import, self.tar_import)
        state = "not in the page cache" if self.options.cold else "in the page cache"
        print("\n" + "\n".join(self.rows.values()))
        wall, cpu, most = map(max, zip(*self.recording))
        print(f"recording them in the office after that, at most: {wall:.1f} s, {cpu:.1f} s of CPU, {most} MiB")
        print(f"the files and the bundle were {state} before; the bundle has {self.bundle.stat().st_size - self.bytes:,} "
              f"bytes more than its crate files")


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def arguments(about):
    given = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--mirror", type=Path, default=Path("target/release/mirror"))
    given.add_argument("--runs", type=int, default=3)
    given.add_argument("--scratch", type=Path, help="make the temporary directory here: three times the bytes are needed")
    return given


def main():
    given = arguments(__doc__)
    given.add_argument("--gb", type=float, default=1, help="how much is kept outside")
    given.add_argument("--cold", action="store_true", help="drop the files from the page cache before each run")
    options = given.parse_args()
    options.mirror = options.mirror.resolve()
    print(f"load {os.getloadavg()[0]:.1f} at the start")
    with tempfile.TemporaryDirectory(prefix="mirror-bench-air-gap-", dir=options.scratch) as scratch:
        bench = Bench(options, Path(scratch))
        if shutil.disk_usage(scratch).free < 4 * options.gb * 1e9:
            raise SystemExit(f"too little room in {scratch}: --scratch names another place")
        try:
            bench.prepare()
            bench.all()
        finally:
            if hasattr(bench.outside, "server"):
                bench.outside.server.end()


if __name__ == "__main__":
    main()
