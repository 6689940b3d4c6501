"""How soon a mirror with many kept files answers, and what memory it takes when idle.

Makes a data directory with so many small crate files and an index that lists them, has the mirror adopt them (which is what a
restore from a backup does, and is measured too), and then starts it again and again.
"""
import argparse
import gzip
import hashlib
import json
import os
import statistics
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

from made_up_registry import prefix
from servers import Server, environment, free_port

VERSIONS = 10  # of each crate
IDLE = 10  # seconds after which the memory is read


def arguments():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--mirror", type=Path, default=Path("target/release/mirror"))
    given.add_argument("--files", type=int, default=200_000)
    given.add_argument("--starts", type=int, default=5)
    given.add_argument("--keep", type=Path, metavar="DIR", help="make the data directory here, or use the one that is here")
    return given.parse_args()


def crate_file(name, version):
    manifest = f'[package]\nname = "{name}"\nversion = "{version}"\nedition = "2021"\n'
    manifest += f'description = "Made up for a benchmark, as {name}"\nlicense = "MIT"\nkeywords = ["made", "up"]\n'
    raw = BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo(f"{name}-{version}/Cargo.toml")
        entry.size, entry.mode = len(manifest), 0o644
        archive.addfile(entry, BytesIO(manifest.encode()))
    return gzip.compress(raw.getvalue(), 1, mtime=0)


def lay_out(data, files):
    """The blobs, and the index that lists them, as a restored backup has them."""
    blobs = data / "blobs"
    for folder in range(256):
        (blobs / f"{folder:02x}").mkdir(parents=True)
    index = data / "index.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "master", str(index)], check=True)
    importing = subprocess.Popen(["git", "--git-dir", str(index), "fast-import", "--quiet"], stdin=subprocess.PIPE)
    out = importing.stdin
    out.write(b"commit refs/heads/master\ncommitter bench <bench@localhost> 1 +0000\ndata 5\nindex\n")
    for number in range((files + VERSIONS - 1) // VERSIONS):
        # four letters, so that the index has many folders
        letters = "".join(chr(ord("a") + byte % 26) for byte in hashlib.md5(str(number).encode()).digest()[:4])
        name = f"{letters}-made-up-{number:05}"
        lines = ""
        for minor in range(min(VERSIONS, files - number * VERSIONS)):
            version = f"1.{minor}.0"
            data_bytes = crate_file(name, version)
            checksum = hashlib.sha256(data_bytes).hexdigest()
            (blobs / checksum[:2] / checksum).write_bytes(data_bytes)
            line = dict(name=name, vers=version, deps=[], cksum=checksum, features={}, yanked=False)
            lines += json.dumps(line, separators=(",", ":")) + "\n"
        text = lines.encode()
        out.write(f"M 100644 inline {prefix(name)}/{name}\ndata {len(text)}\n".encode() + text + b"\n")
    out.close()
    if importing.wait() != 0:
        raise SystemExit("git fast-import failed")
    # a crate that there is, to be asked for
    return name, version


def start(given, data, log):
    address = f"127.0.0.1:{free_port()}"
    settings = environment(
        MIRROR_DATA_DIR=str(data), MIRROR_UPSTREAM__SPARSE="", MIRROR_UPSTREAM__GIT="", MIRROR_MODE="offline"
    )
    command = [str(given.mirror.resolve()), "serve", "--listen", address]
    mirror = Server(command, log, cwd=data.parent, env=settings)
    mirror.address = address
    return mirror


def get(mirror, path):
    with urllib.request.urlopen(f"http://{mirror.address}{path}", timeout=10) as answer:
        return answer.read()


def first_answer(mirror, path, began):
    """Milliseconds from the start of the process to a whole answer."""
    while True:
        try:
            get(mirror, path)
            return (time.monotonic() - began) * 1000
        except (urllib.error.URLError, ConnectionError) as error:
            if mirror.process.poll() is not None or time.monotonic() - began > 60:
                raise SystemExit(f"no answer to {path}: {error}\n{mirror.log.read_text()[-2000:]}")
            time.sleep(0.002)


def kept_files(mirror):
    text = get(mirror, "/metrics").decode()
    return int(text.split("\nmirror_kept_files ")[1].split()[0])


def memory(mirror, what):
    """MiB."""
    status = Path(f"/proc/{mirror.process.pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def adopt(given, data, directory):
    mirror, began = start(given, data, directory / "log"), time.monotonic()
    try:
        first_answer(mirror, "/healthz", began)
        while kept_files(mirror) < given.files:
            if time.monotonic() - began > 1800:
                raise SystemExit(f"only {kept_files(mirror)} files were adopted")
            time.sleep(0.5)
        took = time.monotonic() - began
        print(f"adopted {given.files} files in {took:.0f} s; {memory(mirror, 'VmHWM'):.1f} MiB at most")
    finally:
        mirror.end()


def measure(given, data, directory, name, version):
    rows = []
    for number in range(given.starts):
        # a page that asks nothing, and a crate file, which asks the index and the disk
        path = ["/healthz", f"/api/v1/crates/{name}/{version}/download"][number % 2]
        began = time.monotonic()
        mirror = start(given, data, directory / "log")
        try:
            answered = first_answer(mirror, path, began)
            time.sleep(IDLE)
            row = path, answered, memory(mirror, "VmRSS"), memory(mirror, "VmHWM"), mirror.cpu_seconds()
            assert kept_files(mirror) == given.files
        finally:
            mirror.end()
        rows.append(row)
        print("%-50s %6.0f ms, %5.1f MiB after %d s, %5.1f MiB at most, %.2f s of CPU" % (*row[:3], IDLE, *row[3:]))
    answers, resident = [row[1] for row in rows], [row[2] for row in rows]
    print(f"median of {given.starts} starts: {statistics.median(answers):.0f} ms to the first answer, "
          f"{statistics.median(resident):.1f} MiB idle")


def main():
    given = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        directory = given.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        data, known = directory / "data", directory / "crate.json"
        if not known.exists():
            name, version = lay_out(data, given.files)
            adopt(given, data, directory)
            known.write_text(json.dumps([name, version]))
        print(f"mirror.db: {os.path.getsize(data / 'mirror.db') >> 20} MiB")
        measure(given, data, directory, *json.loads(known.read_text()))


if __name__ == "__main__":
    main()
