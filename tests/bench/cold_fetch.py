#!/usr/bin/env python3
"""A cold `cargo fetch` of 300 crates at 0, 2 and 20 ms of added latency, through

- the mirror as it is: cargo's offer of HTTP/2 is taken,
- the mirror with a cargo that does not offer it: HTTP/1.1,
- nginx with the same files, where it is installed, by either of these cargos; nginx does not take the offer.

twice: with a project that names all 300 itself (flat), and with one that names 20, which need the others (layers).
With `--behind MS` the latency is not between cargo and the mirror but between the mirror and its upstream: cargo that asks upstream
itself, the mirror when it is empty and when it is warm, and twelve cargos at once that find it empty.

Each run has an empty CARGO_HOME and no Cargo.lock. Runs are interleaved; ratios are taken run by run. Needs no network.
Ends with 1 if a fetch fails or takes more than four connections where HTTP/2 was offered to the mirror.
"""
import sys

sys.dont_write_bytecode = True

import argparse
import asyncio
import datetime
import os
import platform
import selectors
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from delaying_proxy import Proxy
from made_up_registry import SHAPES, Registry, Upstream
from servers import environment, start_mirror, start_nginx

MOST_CONNECTIONS = 4
FETCH_LIMIT = 180  # seconds for one fetch
H2C, H1 = "mirror, HTTP/2 by upgrade", "mirror, HTTP/1.1"
NGINX, NGINX_H1 = "nginx, HTTP/2 offered in vain", "nginx, HTTP/1.1"


def arguments():
    root = Path(__file__).resolve().parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, default=target / "release/mirror", help="the binary (default: the release build)")
    parser.add_argument("--cargo", default="cargo", help="the client, as `cargo +nightly` too")
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 2, 20], help="round trips in ms")
    parser.add_argument("--behind", type=float, metavar="MS", help="round trip between the mirror and its upstream, instead")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES), help="of the dependencies")
    parser.add_argument("--runs", type=int, default=3, help="runs of each")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    given = parser.parse_args()
    if not given.mirror.is_file():
        parser.error(f"there is no {given.mirror}; `cargo build --release` makes it")
    return given


def lay_out_project(directory, registry, address, multiplexing):
    """A project that depends on the registry's first layer, and a CARGO_HOME that knows only `address`."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "src").mkdir(parents=True)
    (directory / "src/lib.rs").touch()
    needs = "".join(f'{name} = "1"\n' for name in registry.first)
    (directory / "Cargo.toml").write_text(
        f'[package]\nname = "cold"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\n{needs}'
    )
    (directory / "home").mkdir()
    (directory / "home/config.toml").write_text(
        '[source.crates-io]\nreplace-with = "served"\n'
        f'[registries.served]\nindex = "sparse+http://{address}/index/"\n'
        f"[http]\nmultiplexing = {str(multiplexing).lower()}\n[net]\nretry = 0\n"
    )


async def cold_fetch(cargo, directory, registry, address, multiplexing=True):
    """The seconds of one fetch. Exits with cargo's own words if it fails or brings fewer crates."""
    lay_out_project(directory, registry, address, multiplexing)
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *cargo.split(), "fetch", "-q", cwd=directory, env=environment(CARGO_HOME=str(directory / "home")),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), FETCH_LIMIT)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    took = time.perf_counter() - began
    brought = len(list(directory.glob("home/registry/cache/*/*.crate")))
    if process.returncode or brought != len(registry.crates):
        raise SystemExit(f"cargo ended with {process.returncode} and {brought} crates: {said.decode()}")
    return took


async def measure(given, latency, registry, routes, work):
    """Interleaved runs at one latency: for each route a list of (seconds, connections, upgraded, CPU seconds)."""
    proxies = {name: await Proxy(server.address, latency / 1000).start() for name, server, _ in routes}
    results = {name: [] for name, _, _ in routes}
    for _ in range(given.runs):
        for name, server, multiplexing in routes:
            proxy = proxies[name]
            proxy.reset()
            before = server.cpu_seconds()
            took = await cold_fetch(given.cargo, work / "client", registry, proxy.address, multiplexing)
            after = server.cpu_seconds()
            cpu = None if before is None or after is None else after - before
            results[name].append((took, proxy.connections, proxy.upgraded, cpu))
    return results


def spread(values, form):
    return f"{form % statistics.median(values)} ({form % min(values)} to {form % max(values)})"


def rows(latency, results):
    base = results[H2C]
    for name, runs in results.items():
        seconds, connections, upgraded, cpu = zip(*runs)
        ratios = [took / other[0] for took, other in zip(seconds, base)]
        yield [
            f"{latency:g} ms", name, spread(seconds, "%.2f"), "1" if runs is base else spread(ratios, "%.1f"),
            str(max(connections)), str(max(upgraded)),
            "unknown" if None in cpu else f"{statistics.median(cpu) * 1000:.0f}",
        ]


HEAD = ["round trip", "through", "seconds (range)", "times the first (range)", "connections, most", "of them upgraded", "server CPU ms"]


def table(lines, head=HEAD):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def said_by(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment())
        return (out.stdout + out.stderr).strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "unknown"


def circumstances(given, load_before):
    load = " to ".join(f"{value:.1f}" for value in (load_before, os.getloadavg()[0]))
    versions = [said_by(str(given.mirror), "--version"), said_by(*given.cargo.split(), "--version")]
    if shutil.which("nginx"):
        versions.append(said_by("nginx", "-v").removeprefix("nginx version: "))
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {platform.release()}, load {load}; "
        f"{'; '.join(versions)}; {given.runs} interleaved runs of each."
    )


async def run(given, shape, work):
    """The lines of one table."""
    work.mkdir()
    registry = Registry(shape)
    upstream = await Upstream(registry).start()
    started, lines = [], []
    try:
        mirror = start_mirror(given.mirror.resolve(), upstream.address, work / "mirror")
        started.append(mirror)
        await cold_fetch(given.cargo, work / "client", registry, mirror.address)
        routes = [(H2C, mirror, True), (H1, mirror, False)]
        if nginx := start_nginx(registry, work / "nginx"):
            started.append(nginx)
            routes += [(NGINX, nginx, True), (NGINX_H1, nginx, False)]
        else:
            print("nginx is not installed (apt-get install nginx): measured without it", file=sys.stderr)
        asked = upstream.requests
        for latency in given.latency:
            lines += rows(latency, await measure(given, latency, registry, routes, work))
            print(f"{shape}: {latency:g} ms done", file=sys.stderr)
        if upstream.requests != asked:
            print(f"upstream was asked {upstream.requests - asked} times meanwhile", file=sys.stderr)
    finally:
        for server in started:
            server.end()
    return lines


DIRECT, EMPTY, WARM = "cargo asks upstream, HTTP/1.1", "mirror, empty", "mirror, warm"
AT_ONCE = 12


async def behind(given, shape, work):
    """The lines of one table: upstream is `given.behind` ms away from whoever asks it."""
    work.mkdir()
    registry = Registry(shape)
    upstream = await Upstream(registry).start()
    far = await Proxy(upstream.address, given.behind / 1000).start()
    upstream.be_known_as(far.address)
    results = {DIRECT: [], EMPTY: [], WARM: []}
    for number in range(given.runs):
        results[DIRECT].append(await cold_fetch(given.cargo, work / "client", registry, far.address, False))
        mirror = start_mirror(given.mirror.resolve(), far.address, work / f"mirror-{number}")
        try:
            results[EMPTY].append(await cold_fetch(given.cargo, work / "client", registry, mirror.address))
            results[WARM].append(await cold_fetch(given.cargo, work / "client", registry, mirror.address))
        finally:
            mirror.end()
        print(f"{shape}: run {number + 1} done", file=sys.stderr)
    lines = [
        [name, spread(seconds, "%.2f"), "1" if name == DIRECT else spread([a / b for a, b in zip(seconds, results[DIRECT])], "%.2f")]
        for name, seconds in results.items()
    ]
    return lines, await many_at_once(given, registry, upstream, far.address, work)


async def many_at_once(given, registry, upstream, address, work):
    """One sentence. Exits if upstream was asked for a crate file twice, or for one that nobody wants."""
    mirror = start_mirror(given.mirror.resolve(), address, work / "mirror-many")
    upstream.asked.clear()
    try:
        jobs = [cold_fetch(given.cargo, work / f"client-{job}", registry, mirror.address) for job in range(AT_ONCE)]
        seconds = sorted(await asyncio.gather(*jobs))
        lone = await cold_fetch(given.cargo, work / "client", registry, mirror.address)
    finally:
        mirror.end()
    files = {path: count for path, count in upstream.asked.items() if path.startswith("api/")}
    index = sum(upstream.asked.values()) - sum(files.values())
    if len(files) != len(registry.crates) or set(files.values()) != {1}:
        raise SystemExit(f"upstream was asked for {sum(files.values())} crate files, {len(files)} of them different")
    share = lone * AT_ONCE / os.cpu_count()
    return (
        f"{AT_ONCE} at once, mirror empty: {seconds[0]:.2f} to {seconds[-1]:.2f} s; a lone one (warm) {lone:.2f} s, "
        f"so {share:.2f} s for {AT_ONCE} on {os.cpu_count()} cores; upstream was asked for {len(files)} crate files once each "
        f"and for index files {index} times ({len(registry.index)} and config.json)."
    )


def tables_of_behind(given, loop, work):
    head = ["through", "seconds (range)", "times the first (range)"]
    for shape in given.shape:
        lines, sentence = loop.run_until_complete(behind(given, shape, Path(work) / shape))
        yield from ["", f"### {shape}, upstream {given.behind:g} ms away", "", *table(lines, head), "", sentence]


def main():
    given = arguments()
    # select() waits to the microsecond, epoll by the millisecond: too coarse for a delay of one
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    asyncio.set_event_loop(loop)
    load, text, most = os.getloadavg()[0], [], 0
    with tempfile.TemporaryDirectory(prefix="cold-fetch-") as work:
        if given.behind is not None:
            text += tables_of_behind(given, loop, work)
        for shape in given.shape if given.behind is None else []:
            lines = loop.run_until_complete(run(given, shape, Path(work) / shape))
            most = max([most] + [int(line[4]) for line in lines if line[1] == H2C])
            text += ["", f"### {shape}", "", *table(lines)]
    text = "\n".join([circumstances(given, load), *text])
    print(text)
    if given.markdown:
        given.markdown.write_text(text + "\n")
    if most > MOST_CONNECTIONS:
        raise SystemExit(f"{most} connections for one fetch, more than {MOST_CONNECTIONS}")


main()
