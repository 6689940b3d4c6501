"""Registries of 300 made-up crates, the same to the byte each time, and an upstream that serves one from memory."""
import asyncio
import collections
import gzip
import hashlib
import io
import json
import random
import socket
import string
import tarfile

# How many crates are how far from the project. In layers, cargo learns of a crate only from the index file of another, and
# its resolver waits for each such step; flat, it can ask for all of them at once.
SHAPES = {"layers": [20, 50, 90, 80, 40, 20], "flat": [300]}
TOTAL_BYTES = 14_000_000
VERSION = "1.2.3"


def prefix(name):
    """The folders of a crate's index file; our names have more than three letters."""
    return f"{name[:2]}/{name[2:4]}"


def crate_file(name, dependencies, padding):
    """A .crate whose size is that of its padding, which does not compress."""
    manifest = f'[package]\nname = "{name}"\nversion = "{VERSION}"\nedition = "2021"\nlicense = "MIT"\n'
    manifest += 'description = "Made up for a benchmark"\n\n[dependencies]\n'
    manifest += "".join(f'{other} = "1"\n' for other in dependencies)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in [("Cargo.toml", manifest.encode()), ("src/lib.rs", b""), ("padding.bin", padding)]:
            entry = tarfile.TarInfo(f"{name}-{VERSION}/{path}")
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), 1, mtime=0)


def index_line(name, version, dependencies, checksum):
    deps = [
        dict(name=other, req="^1", features=[], optional=False, default_features=True, target=None, kind="normal")
        for other in dependencies
    ]
    line = dict(name=name, vers=version, deps=deps, cksum=checksum, features={}, yanked=False)
    return json.dumps(line, separators=(",", ":")) + "\n"


class Registry:
    """`crates`: crate files by name. `index`: index files by path. `first`: what the project depends on."""

    def __init__(self, shape):
        sizes = SHAPES[shape]
        chance = random.Random(300)
        names = [
            "".join(chance.choices(string.ascii_lowercase, k=4)) + f"-made-up-{number:03}"
            for number in range(sum(sizes))
        ]
        layers, start = [], 0
        for size in sizes:
            layers.append(names[start : start + size])
            start += size
        needs = {name: [] for name in names}
        for nearer, farther in zip(layers, layers[1:]):
            for name in farther:
                for by in chance.sample(nearer, 2):
                    needs[by].append(name)
        # most crates are small and a few make up half of the bytes, as with real ones
        weights = [chance.lognormvariate(0, 1.2) for _ in names]
        self.first, self.crates, self.index = layers[0], {}, {}
        for name, weight in zip(names, weights):
            padding = chance.randbytes(int(TOTAL_BYTES * weight / sum(weights)))
            self.crates[name] = crate_file(name, needs[name], padding)
            checksum = hashlib.sha256(self.crates[name]).hexdigest()
            older = [f"0.{minor}.0" for minor in range(chance.randrange(40))]
            lines = [index_line(name, version, needs[name], chance.randbytes(32).hex()) for version in older]
            lines.append(index_line(name, VERSION, needs[name], checksum))
            self.index[f"{prefix(name)}/{name}"] = "".join(lines).encode()

    def lay_out(self, root):
        """The files as a static server wants them."""
        for path, data in self.files():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)

    def files(self):
        for path, data in self.index.items():
            yield f"index/{path}", data
        for name, data in self.crates.items():
            yield f"api/v1/crates/{name}/{VERSION}/download", data


class Upstream:
    """Serves a registry over HTTP/1.1 with keep-alive, and counts what it is asked."""

    def __init__(self, registry):
        self.files, self.requests = dict(registry.files()), 0
        self.asked = collections.Counter()  # by path

    async def start(self):
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, family=socket.AF_INET)
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        self.be_known_as(self.address)
        return self

    def be_known_as(self, address):
        """Where clients find the crate files: behind a proxy it is the proxy's address."""
        config = {"dl": f"http://{address}/api/v1/crates", "api": None}
        self.files["index/config.json"] = json.dumps(config).encode()

    async def _connection(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                path = head.split(b" ", 2)[1].decode().lstrip("/")
                self.asked[path] += 1
                data = self.files.get(path)
                status = "404 Not Found" if data is None else "200 OK"
                data = data or b""
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
