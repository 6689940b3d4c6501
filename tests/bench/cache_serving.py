#!/usr/bin/env python3
"""Kept crate files and index files by wrk, beside nginx (and panamax and crates-io-proxy, where they are installed), as
ratios to nginx in interleaved runs; what the mirror takes of memory for 256 clients of large files and 256 slow readers; and
what 2,000 slow clients do to a good one.

The files are real ones, out of a CARGO_HOME in which `cargo fetch` was run; nginx is the mirror's upstream as well, so that
it fills its own cache before anything is measured. Needs no network. Ends with 1 if an answer is wrong.
"""
import sys

sys.dont_write_bytecode = True

import argparse
import http.client
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from real_crates import RealCrates
from servers import Server, answers, environment, free_port, start_mirror, start_nginx

HERE = Path(__file__).resolve().parent
KINDS = ["small", "medium", "large", "index", "304"]
SIZES = {"small": (15_000, 25_000), "medium": (140_000, 260_000), "large": (5_000_000, 11_000_000)}
# The least ratio to nginx that issue 4 asks for, by kind and connections: of requests, and so of bytes.
WANTED = {
    ("small", 1): 0.95, ("small", 32): 0.6, ("small", 256): 0.75, ("medium", 32): 0.8, ("large", 32): 1.2,
    ("index", 1): 1.0, ("index", 32): 1.0, ("index", 256): 1.0, ("304", 1): 0.7, ("304", 32): 0.7, ("304", 256): 0.7,
}
READERS = 256
SLOW_CLIENTS = 2_000


def arguments():
    root = HERE.parents[1]
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    home = Path(os.environ.get("BENCH_CARGO_HOME") or os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, default=target / "release/mirror", help="the binary (default: the release build)")
    parser.add_argument("--cargo-home", type=Path, default=home, help="where the crates are (default: $BENCH_CARGO_HOME, else cargo's own)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of %(default)s")
    parser.add_argument("--connections", default="1,32,256")
    parser.add_argument("--seconds", type=int, default=2, help="for each run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--slow-seconds", type=int, default=30, help="how long 256 readers take 1 KB/s")
    parser.add_argument("--only-rates", action="store_true", help="leave out memory and slow clients")
    parser.add_argument("--only-clients", action="store_true", help="leave out the rates")
    given = parser.parse_args()
    if not given.mirror.is_file():
        parser.error(f"there is no {given.mirror}; `cargo build --release` makes it")
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed, and makes the load")
    return given


def get(address, path, headers={}):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


def resident(pid, what="VmRSS"):
    """MiB, the process's children included."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(status.split(what + ":")[1].split()[0]) / 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(resident(child, what) for child in children)


class Peak:
    """The most resident memory while something runs, sampled."""

    def __init__(self, pid):
        self.pid, self.mib, self.stop = pid, resident(pid), threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def _sample(self):
        while not self.stop.wait(0.05):
            self.mib = max(self.mib, resident(self.pid))

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def start_peers(nginx, work):
    """The other mirrors that are installed, with nginx as upstream; a line for each that is not."""
    peers = []
    if program := shutil.which("crates-io-proxy"):
        address, cache = f"127.0.0.1:{free_port()}", work / "proxy-cache"
        cache.mkdir()
        up = f"http://{nginx.address}"
        command = [program, "-L", address, "-U", up + "/", "-I", up + "/index/", "-S", f"http://{address}/", "-C", str(cache), "-T", "36000"]
        peers.append(("crates-io-proxy", command, address))
    if program := shutil.which("panamax"):
        address, root = f"127.0.0.1:{free_port()}", work / "panamax"
        lay_out_for_panamax(work / "nginx/www", root)
        peers.append(("panamax", [program, "serve", "-l", "127.0.0.1", "-p", address.split(":")[1], str(root)], address))
    for name in ("crates-io-proxy", "panamax"):
        if shutil.which(name) is None:
            print(f"{name} is not installed: left out")
    started = {}
    for name, command, address in peers:
        server = Server(command, work / f"{name}.log", env=environment())
        server.address = address
        server.wait_until(lambda: answers(address))
        started[name] = server
    return started


def lay_out_for_panamax(www, root):
    for file in (www / "api/v1/crates").glob("*/*/download"):
        name, version = file.parts[-3:-1]
        folder = root / "crates" / next((www / "index").glob(f"**/{name.lower()}")).parent.relative_to(www / "index") / name / version
        folder.mkdir(parents=True)
        os.link(file, folder / f"{name}-{version}.crate")


def paths(registry, server, kind):
    """What to ask this server for; each is asked once, so that it is warm and right. None if it cannot give this kind."""
    if kind in SIZES:
        wanted = registry.of_size(*SIZES[kind])
    else:
        wanted = [f"/index/{path}" for path in registry.index]
    lines = []
    for path in wanted:
        status, headers, body = get(server.address, path)
        if status == 404 and "mirror" not in str(server.process.args[0]):
            return None
        if status != 200 or body != registry.data[path[1:]]:
            raise SystemExit(f"{server.process.args[0]} answered {status} with {len(body)} bytes to {path}")
        if kind == "304":
            tag = headers.get("ETag")
            if not tag or get(server.address, path, {"If-None-Match": tag})[0] != 304:
                return None
            path += f"\t{tag}"
        lines.append(path)
    return lines


def wrk(server, lines, connections, seconds, work):
    asked = work / "paths"
    asked.write_text("\n".join(lines) + "\n")
    before = server.cpu_seconds()
    command = ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s"]
    command += ["-s", str(HERE / "cache_load.lua"), f"http://{server.address}"]
    with Peak(server.process.pid) as peak:
        said = subprocess.run(command, env={**os.environ, "WRK_PATHS": str(asked)}, capture_output=True, text=True)
    if "JSON " not in said.stdout:
        raise SystemExit(f"wrk failed: {said.stdout} {said.stderr}")
    result = json.loads(said.stdout.split("JSON ", 1)[1])
    result["rate"] = result["requests"] / result["us"] * 1e6
    result["cpu_us"] = (server.cpu_seconds() - before) / max(1, result["requests"]) * 1e6
    result["mib"] = peak.mib
    return result


def rates(given, registry, servers, work):
    """A line for each kind and number of connections; whether all answers were right."""
    names = list(servers)
    print("| what | connections | nginx req/s | " + " | ".join(f"{name} (range)" for name in names[1:]) + " | wanted | CPU us, nginx | mirror | p99 ms, nginx | mirror | mirror MiB |")
    print("|---" * (8 + len(names)) + "|")
    right = True
    for kind in given.kinds.split(","):
        asked = {name: paths(registry, server, kind) for name, server in servers.items()}
        if not asked["nginx"]:
            print(f"no {kind} files in {given.cargo_home}: left out")
            continue
        for connections in map(int, given.connections.split(",")):
            runs = {name: [] for name in names}
            for _ in range(given.runs):
                for name in names:
                    if asked[name]:
                        runs[name].append(wrk(servers[name], asked[name], connections, given.seconds, work))
            middle = lambda name, key: statistics.median(run[key] for run in runs[name])
            line = [kind, connections, f"{middle('nginx', 'rate'):,.0f}"]
            for name in names[1:]:
                ratios = [run["rate"] / base["rate"] for run, base in zip(runs[name], runs["nginx"])]
                line.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "does not")
            line.append(WANTED.get((kind, connections), ""))
            line += [f"{middle(name, 'cpu_us'):.1f}" for name in ("nginx", "mirror")]
            line += [f"{middle(name, 'p99_us') / 1000:.2f}" for name in ("nginx", "mirror")]
            line.append(f"{max(run['mib'] for run in runs['mirror']):.0f}")
            print("| " + " | ".join(map(str, line)) + " |", flush=True)
            right &= not any(run["wrong"] for run in runs["mirror"])
    return right


def narrow(address, source="127.0.0.1"):
    """A connection that takes only a little before its owner reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.bind((source, 0))
    host, port = address.split(":")
    client.connect((host, int(port)))
    return client


def ask(client, path):
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())


def kernel_mib():
    """What all TCP sockets of the machine hold in the kernel."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(line.split(" mem ")[1].split()[0]) * os.sysconf("SC_PAGE_SIZE") >> 20


def memory(registry, mirror, work, seconds):
    """256 clients that take 5 MB files as fast as they can, and 256 that take 1 KB a second."""
    lines = registry.of_size(*SIZES["large"])
    if not lines:
        print("no large files: memory left out")
        return
    fast = wrk(mirror, lines, READERS, 4, work)
    print(f"{READERS} connections on files of 5 MB and more: at most {fast['mib']:.0f} MiB resident")
    before, cut = kernel_mib(), set()
    with Peak(mirror.process.pid) as peak:
        clients = [narrow(mirror.address) for _ in range(READERS)]
        for client in clients:
            ask(client, lines[0])
        for _ in range(seconds):
            time.sleep(1)
            for client in clients:
                if not took(client):
                    cut.add(client)
        kernel = kernel_mib() - before
    for client in clients:
        client.close()
    print(f"{READERS} readers of 1 KB/s for {seconds} s: at most {peak.mib:.0f} MiB resident, {kernel} MiB in the kernel, {len(cut)} cut off")


def took(client):
    """Whether there was anything to take."""
    try:
        return client.recv(1024) != b""
    except ConnectionResetError:
        return False


def good_client(address, paths, seconds):
    """Seconds that each answer took."""
    connection = http.client.HTTPConnection(address, timeout=60)
    took, until, at = [], time.monotonic() + seconds, 0
    while time.monotonic() < until:
        began = time.perf_counter()
        connection.request("GET", paths[at % len(paths)])
        response = connection.getresponse()
        response.read()
        took.append(time.perf_counter() - began)
        if response.status != 200:
            raise SystemExit(f"a good client was answered {response.status}")
        at += 1
        time.sleep(0.001)
    return took


def slow_clients(registry, mirror):
    """What a good client sees alone, and among 2,000 that read 1 KB a second, begin and do not end a head, or say nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    good, large = registry.of_size(*SIZES["small"]), registry.of_size(100_000, 11_000_000)
    show = lambda took: f"{len(took)} answers, median {statistics.median(took) * 1000:.2f} ms, p99 {sorted(took)[len(took) * 99 // 100] * 1000:.2f} ms"
    print("a good client alone:", show(good_client(mirror.address, good, 5)))
    clients = []
    for number in range(SLOW_CLIENTS):
        client = narrow(mirror.address, f"127.0.1.{1 + number % 10}")
        if number % 3 == 0:
            ask(client, large[number % len(large)])
        elif number % 3 == 1:
            client.sendall(b"GET /index/config.json HTTP/1.1\r\nHos")
        client.setblocking(False)
        clients.append(client)
    stop = threading.Event()

    def read_slowly():
        while not stop.wait(1):
            for client in clients:
                try:
                    client.recv(1024)
                except OSError:
                    pass

    reader = threading.Thread(target=read_slowly)
    reader.start()
    took = good_client(mirror.address, good, 10)
    stop.set()
    reader.join()
    print(f"among {SLOW_CLIENTS} slow ones:", show(took))
    for client in clients:
        client.close()


def main():
    given = arguments()
    registry = RealCrates(given.cargo_home)
    print(f"{len(registry.crates)} crate files, {len(registry.index)} index files; load {os.getloadavg()[0]:.1f}\n")
    right = True
    with tempfile.TemporaryDirectory(prefix="cache-serving-") as work:
        work = Path(work)
        (work / "nginx").mkdir()
        nginx = start_nginx(registry, work / "nginx")
        if nginx is None:
            raise SystemExit("nginx is not installed: there is nothing to compare with, nor an upstream")
        servers = {"nginx": nginx}
        try:
            servers["mirror"] = start_mirror(given.mirror.resolve(), nginx.address, work / "mirror")
            servers |= start_peers(nginx, work)
            if not given.only_clients:
                right = rates(given, registry, servers, work)
            if not given.only_rates:
                print()
                paths(registry, servers["mirror"], "small"), paths(registry, servers["mirror"], "large")
                memory(registry, servers["mirror"], work, given.slow_seconds)
                slow_clients(registry, servers["mirror"])
        finally:
            for server in servers.values():
                server.end()
        print(f"\nload {os.getloadavg()[0]:.1f}")
    if not right:
        raise SystemExit("some answers were wrong or missing")


main()
