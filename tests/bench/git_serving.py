#!/usr/bin/env python3
"""Following and hosting a real index over git (`just bench-git`), beside git itself.

First: the first sync against `git clone --bare --depth 1` of the same upstream. Then a full clone and updates, as bare requests
whose answers are thrown away, to the mirror and to `git http-backend` over a copy of the mirror's own index.git with bitmaps.
"""
import argparse
import hashlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from git_scene import BUNDLE, GIT, Mirror, Upstream, git, run, start_backend
from servers import Server, answers, environment, free_port

FILE_BYTES = 200_000
DOWNLOAD = "/api/v1/crates/bench-download/1.0.0/download"


def processes(pid):
    """It and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += processes(int(child))
        except OSError:
            pass  # has ended
    return found


def resident(pid):
    """Anonymous memory of the tree in MiB: without mapped packs, which the page cache has anyway."""
    total = 0
    for process in processes(pid):
        try:
            total += int(Path(f"/proc/{process}/status").read_text().split("RssAnon:")[1].split()[0])
        except (OSError, IndexError):
            pass
    return total / 1024


class Watched:
    """CPU seconds and the most memory of a server meanwhile."""

    def __init__(self, server):
        self.server, self.pid, self.over = server, server.process.pid, threading.Event()

    def __enter__(self):
        self.idle = self.most = resident(self.pid)
        self.cpu_before, self.began = self.server.cpu_seconds(), time.monotonic()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.over.wait(0.01):
            self.most = max(self.most, resident(self.pid))

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.began
        self.over.set()
        self.thread.join()
        self.cpu = self.server.cpu_seconds() - self.cpu_before
        self.above = self.most - self.idle


def line(text):
    return f"{len(text) + 4:04x}{text}".encode()


def ask(place, want, have=None):
    """(seconds to the first byte of the pack, bytes of the answer) of one fetch by protocol 2."""
    address, path = place
    body = line("command=fetch\n") + b"0001" + b"".join(line(f"{word}\n") for word in ("thin-pack", "ofs-delta", "no-progress"))
    body += line(f"want {want}\n") + (line(f"have {have}\n") if have else b"") + line("done\n") + b"0000"
    connection = http.client.HTTPConnection(address, timeout=120)
    began = time.monotonic()
    headers = {"Git-Protocol": "version=2", "Content-Type": "application/x-git-upload-pack-request"}
    connection.request("POST", f"{path}/git-upload-pack", body, headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    start = b""
    while b"PACK" not in start:
        piece = answer.read1(1 << 16)
        assert piece, start[-500:]
        start += piece
    first, size = time.monotonic() - began, len(start)
    while piece := answer.read1(1 << 16):
        size += len(piece)
    connection.close()
    return first, size


def clones(server, place, want, number):
    """A row of the table: so many full clones at once."""
    results, threads = [], []
    with Watched(server) as watched:
        for _ in range(number):
            threads.append(threading.Thread(target=lambda: results.append(ask(place, want))))
            threads[-1].start()
        for thread in threads:
            thread.join()
    assert len(results) == number, f"{len(results)} of {number} clones were whole"
    size = statistics.median(size for _, size in results)
    first = max(first for first, _ in results)
    return size, first, watched


class Bench:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.upstream = Upstream(directory / "upstream")
        self.servers = [self.upstream.server]

    def first_syncs(self):
        print("| first sync by | seconds | CPU s | most resident MiB |")
        print("|---|---|---|---|")
        self.upstream.go_to(self.upstream.commits[-1])
        for number in range(self.options.runs):
            where = self.directory / f"git{number}"
            command = ["git", "clone", "-q", "--bare", "--depth", "1", self.upstream.url, str(where)]
            self.timed("git clone --bare --depth 1", command, environment(**GIT))
            own = self.directory / f"mirror{number}"
            own.mkdir()
            settings = environment(
                MIRROR_UPSTREAM__SPARSE="", MIRROR_UPSTREAM__GIT=self.upstream.url, MIRROR_DATA_DIR=str(own / "data")
            )
            self.timed("mirror sync", [str(self.options.binary), "sync"], settings)
        print(flush=True)

    def timed(self, name, command, settings):
        began = time.monotonic()
        child = subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.directory)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0, f"{name}: {child.returncode}"
        seconds, cpu = time.monotonic() - began, usage.ru_utime + usage.ru_stime
        print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {usage.ru_maxrss / 1024:.0f} |", flush=True)

    def serve(self):
        """A mirror with commits of its own for several positions of upstream, and git over a copy of them."""
        self.upstream.go_to(self.upstream.commits[0])
        files = self.start_files()
        self.mirror = Mirror(
            self.options.binary,
            self.upstream,
            self.directory / "mirror",
            # as most mirrors are set up: with both
            MIRROR_UPSTREAM__SPARSE=f"sparse+http://{files}/index/",
            MIRROR_UPSTREAM__DOWNLOAD=f"http://{files}",
            MIRROR_INDEX__SPARSE_MAX_AGE="1h",
        )
        self.servers.append(self.mirror.server)
        began = time.monotonic()
        # left behind by so many commits when the last one is reached
        self.tips = {}
        commits = self.upstream.commits
        for behind in (1000, 100, 1, 0):
            self.upstream.go_to(commits[len(commits) - 1 - behind])
            self.mirror.command("sync")
            self.tips[behind] = git(self.mirror.repository, "rev-parse", "master")
            if behind == 1000:
                self.first_clone(self.tips[behind], began)
        copy = self.directory / "peer"
        copy.mkdir()
        run(["cp", "-r", self.mirror.repository, copy / "index.git"])
        git(copy / "index.git", "repack", "-adbq")
        self.peer = start_backend(copy, self.directory / "peer-log")
        self.servers.append(self.peer)
        self.places = {
            "git http-backend, bitmaps": (self.peer, (self.peer.address, "/index.git")),
            "mirror": (self.mirror.server, (self.mirror.address, "/git/index")),
        }

    def first_clone(self, tip, began):
        """Waits for what git clients are served from, which is made after the first sync; the clones measured later find it."""
        synced, server = time.monotonic() - began, self.mirror.server
        cpu = server.cpu_seconds()
        ask((self.mirror.address, "/git/index"), tip)
        whole = time.monotonic() - began
        print(
            f"A server with an empty directory: synced after {synced:.1f} s, a first clone that came then was whole after "
            f"{whole:.1f} s, with {server.cpu_seconds() - cpu:.1f} CPU seconds in between, most resident {server.most_resident()} MiB.\n",
            flush=True,
        )

    def full_clones(self):
        print("| full clone, from | clients | MB each | pack's first byte ms | seconds | server CPU s | per 25 MB | MiB above idle |")
        print("|---|---|---|---|---|---|---|---|")
        for number in (1, 8, 10):
            for _ in range(self.options.runs):
                for name, (server, place) in self.places.items():
                    size, first, watched = clones(server, place, self.tips[0], number)
                    per = watched.cpu / (number * size / 25e6)
                    print(
                        f"| {name} | {number} | {size / 1e6:.1f} | {first * 1e3:.0f} | {watched.seconds:.2f} | "
                        f"{watched.cpu:.2f} | {per:.3f} | {watched.above:.1f} |",
                        flush=True,
                    )
        print(flush=True)

    def updates(self):
        print("| upstream commits | from | bytes | pack's first byte ms |")
        print("|---|---|---|---|")
        for behind in (1, 100, 1000):
            for name, (_, place) in self.places.items():
                self.update(f"behind by {behind:,}", name, place, self.tips[0], self.tips[behind])
        self.upstream.squash()
        self.mirror.command("sync")
        self.upstream.go_to(self.upstream.commits[-2])
        self.mirror.command("sync")
        tip = git(self.mirror.repository, "rev-parse", "master")
        _, place = self.places["mirror"]
        self.update("behind by 1,000, a squash by upstream and a change", "mirror", place, tip, self.tips[1000])
        print(flush=True)

    def update(self, what, name, place, want, have):
        answers = [ask(place, want, have) for _ in range(5)]
        first = statistics.median(first for first, _ in answers)
        print(f"| {what} | {name} | {answers[0][1]:,} | {first * 1e3:.0f} |", flush=True)

    def start_files(self):
        """The address of a server that has the one crate file."""
        path = self.directory / "files/bench-download/1.0.0/download"
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(FILE_BYTES))
        address = f"127.0.0.1:{free_port()}"
        config = self.directory / "files/index/config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"dl": f"http://{address}"}))
        host, port = address.split(":")
        command = [sys.executable, "-m", "http.server", "--bind", host, "--directory", str(self.directory / "files"), port]
        server = Server(command, self.directory / "files-log")
        self.servers.append(server)
        server.wait_until(lambda: answers(address))
        self.checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        return address

    def others_meanwhile(self):
        """A kept crate file and an index file, asked for one after the other, first alone and then beside ten clones."""
        version = {"name": "bench-download", "vers": "1.0.0", "deps": [], "cksum": self.checksum, "features": {}, "yanked": False}
        text = json.dumps(version) + "\n"
        self.upstream.add("be/nc/bench-download", text)
        for path in ("be/nc/bench-download", "se/rd/serde"):
            sparse = self.directory / "files/index" / path
            sparse.parent.mkdir(parents=True)
            sparse.write_text(git(self.upstream.repository, "show", f"master:{path}") + "\n")
        self.mirror.command("sync")
        self.get(DOWNLOAD)
        print("| asked for | meanwhile | answers | ms, median | ms, slowest |")
        print("|---|---|---|---|---|")
        for what, path in ((f"a kept crate file of {FILE_BYTES:,} bytes", DOWNLOAD), ("an index file", "/index/se/rd/serde")):
            until = time.monotonic() + 1
            self.latencies(what, "nothing", path, lambda: time.monotonic() > until)
            place = self.places["mirror"][1]
            working = [threading.Thread(target=lambda: [ask(place, self.tips[0]) for _ in range(5)]) for _ in range(10)]
            for thread in working:
                thread.start()
            self.latencies(what, "ten clients clone, five times each", path, lambda: not any(thread.is_alive() for thread in working))
        print(flush=True)

    def get(self, path, connection=None):
        connection = connection or http.client.HTTPConnection(self.mirror.address, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body[:200])
        assert path != DOWNLOAD or hashlib.sha256(body).hexdigest() == self.checksum
        return connection

    def latencies(self, what, meanwhile, path, over):
        connection, times = self.get(path), []
        while not over():
            began = time.monotonic()
            self.get(path, connection)
            times.append(time.monotonic() - began)
            time.sleep(0.002)
        connection.close()
        median, slowest = statistics.median(times) * 1e3, max(times) * 1e3
        print(f"| {what} | {meanwhile} | {len(times)} | {median:.1f} | {slowest:.1f} |", flush=True)

    def end(self):
        for server in self.servers:
            server.end()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary", type=Path)
    arguments.add_argument("--runs", type=int, default=3)
    options = arguments.parse_args()
    options.binary = options.binary.resolve()
    if not BUNDLE.exists():
        print(f"skipped: {BUNDLE} is not there (BENCH_DATA names its directory)")
        return
    print(f"load {os.getloadavg()[0]:.1f} at the start\n")
    with tempfile.TemporaryDirectory(prefix="mirror-bench-git-") as directory:
        bench = Bench(options, Path(directory))
        try:
            bench.first_syncs()
            bench.serve()
            bench.full_clones()
            bench.updates()
            bench.others_meanwhile()
        finally:
            bench.end()
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
