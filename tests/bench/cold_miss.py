#!/usr/bin/env python3
"""Crate files that the mirror does not have yet, from an upstream that gives 10 MiB/s to each connection:

- the first byte and the whole of one file of 5 MB, beside the same asked of upstream directly, runs interleaved;
- 50 clients at once for one file.

Each file is asked for once, since the mirror knows files by their checksum. Needs no network. Ends with 1 if an answer is
wrong or upstream is asked more than once for a file.
"""
import sys

sys.dont_write_bytecode = True

import argparse
import asyncio
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

from made_up_registry import VERSION, crate_file, index_line, prefix
from servers import start_mirror

FILE_BYTES = 5_000_000
RATE = 10 << 20  # bytes per second and connection
PIECE = 64 << 10
LIMIT = 60  # seconds for one answer


def arguments():
    root = Path(__file__).resolve().parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, default=target / "release/mirror", help="the binary (default: the release build)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--clients", type=int, default=50)
    given = parser.parse_args()
    if not given.mirror.is_file():
        parser.error(f"there is no {given.mirror}; `cargo build --release` makes it")
    return given


class SlowUpstream:
    """A process of its own, so that it takes no time from the clients. `GET /asked/NAME` says how often a file was."""

    def __init__(self, names):
        padding = random.Random(5).randbytes(FILE_BYTES)
        self.crates = {name: crate_file(name, [], padding) for name in names}
        self.checksums = {name: hashlib.sha256(data).hexdigest() for name, data in self.crates.items()}
        ours, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=lambda: asyncio.run(self._serve(theirs)), daemon=True)
        self.process.start()
        if not ours.poll(30):
            raise SystemExit("the upstream did not start")
        self.address = ours.recv()

    async def _serve(self, told):
        self.asked = dict.fromkeys(self.crates, 0)
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        told.send(self.address)
        await server.serve_forever()

    def _answer(self, path):
        if path == "/index/config.json":
            return json.dumps({"dl": f"http://{self.address}/crates", "api": None}).encode()
        name = path.split("/")[2 if path.startswith(("/crates/", "/asked/")) else -1]
        if name not in self.crates:
            return None
        if path.startswith("/asked/"):
            return str(self.asked[name]).encode()
        if path.startswith("/crates/"):
            self.asked[name] += 1
            return self.crates[name]
        right = path == f"/index/{prefix(name)}/{name}"
        return index_line(name, VERSION, [], self.checksums[name]).encode() if right else None

    async def _connection(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                data = self._answer(head.split(b" ", 2)[1].decode())
                status = "404 Not Found" if data is None else "200 OK"
                data = memoryview(data or b"")
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode())
                began = time.monotonic()
                for start in range(0, len(data), PIECE):
                    await asyncio.sleep(max(0, began + start / RATE - time.monotonic()))
                    writer.write(data[start : start + PIECE])
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def get(address, path):
    """(seconds to the first byte, seconds in all, checksum of a 200 or what else came)"""
    began = time.perf_counter()
    try:
        connection = http.client.HTTPConnection(address, timeout=LIMIT)
        connection.request("GET", path)
        response = connection.getresponse()
        digest = hashlib.sha256(response.read(1))
        first = time.perf_counter() - began
        while piece := response.read(1 << 18):
            digest.update(piece)
        connection.close()
        outcome = digest.hexdigest() if response.status == 200 else str(response.status)
    except (OSError, http.client.HTTPException) as error:
        return 0, 0, repr(error)
    return first, time.perf_counter() - began, outcome


def one_by_one(given, upstream, mirror, names):
    """The table of single misses, and whether all answers were right."""
    results, right = {"upstream itself": [], "mirror": []}, True
    for _ in range(given.runs):
        for route, address, path in [
            ("upstream itself", upstream.address, "/crates"),
            ("mirror", mirror.address, "/api/v1/crates"),
        ]:
            name = names.pop()
            first, total, outcome = get(address, f"{path}/{name}/{VERSION}/download")
            right &= outcome == upstream.checksums[name]
            results[route].append((first * 1000, total * 1000))
    lines = ["| from | first byte ms | all ms (range) | times upstream |", "|---|---|---|---|"]
    base = statistics.median(total for _, total in results["upstream itself"])
    for route, runs in results.items():
        first, total = zip(*runs)
        middle = statistics.median(total)
        spread = f"{middle:.0f} ({min(total):.0f} to {max(total):.0f})"
        lines.append(f"| {route} | {statistics.median(first):.1f} | {spread} | {middle / base:.2f} |")
    return lines, right


def all_at_once(given, upstream, mirror, name):
    """A line about many clients for one file, and whether all went well."""
    answers, before = [], mirror.cpu_seconds()
    path = f"/api/v1/crates/{name}/{VERSION}/download"
    clients = [threading.Thread(target=lambda: answers.append(get(mirror.address, path))) for _ in range(given.clients)]
    began = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    took = time.perf_counter() - began
    wrong = [outcome for _, _, outcome in answers if outcome != upstream.checksums[name]]
    if wrong:
        print(f"{len(wrong)} wrong answers: {wrong[0]}", file=sys.stderr)
    asked = int(read(upstream.address, f"/asked/{name}"))
    cpu = mirror.cpu_seconds() - before
    first = statistics.median(answer[0] for answer in answers) * 1000
    right = len(answers) - len(wrong)
    line = f"| {right} of {given.clients} | {asked} | {took:.2f} | {first:.0f} | {cpu:.2f} | {mirror.most_resident()} |"
    return line, not wrong and asked == 1


def read(address, path):
    connection = http.client.HTTPConnection(address, timeout=LIMIT)
    connection.request("GET", path)
    return connection.getresponse().read()


def main():
    given = arguments()
    names = [f"miss-made-up-{number:03}" for number in range(2 * given.runs + 4)]
    upstream = SlowUpstream(names)
    with tempfile.TemporaryDirectory(prefix="cold-miss-") as work:
        mirror = start_mirror(given.mirror.resolve(), upstream.address, Path(work) / "mirror")
        try:
            get(mirror.address, f"/api/v1/crates/{names.pop()}/{VERSION}/download")  # config.json is known from here on
            lines, right = one_by_one(given, upstream, mirror, names)
            print("\n".join(lines), "\n")
            print("| right answers | upstream requests | seconds | first byte ms, median | server CPU s | most resident MiB |")
            print("|---|---|---|---|---|---|")
            for _ in range(3):
                line, well = all_at_once(given, upstream, mirror, names.pop())
                right &= well
                print(line, flush=True)
        finally:
            mirror.end()
            upstream.process.terminate()
    if not right:
        raise SystemExit("wrong answers, or a file that was fetched more than once")


main()
