"""How long `mirror verify` takes, beside `sha256sum` over the same files.

Makes a data directory with random files in `blobs/`, small and large ones, and hashes them in turn by both: as they are run by hand, and with the mirror held to one core, as sha256sum is.
"""
import argparse
import hashlib
import os
import subprocess
import tempfile
import time
from pathlib import Path


def fill(blobs: Path, sizes: list[tuple[int, int]]) -> list[str]:
    paths = []
    for size, count in sizes:
        for _ in range(count):
            content = os.urandom(size)
            name = hashlib.sha256(content).hexdigest()
            folder = blobs / name[:2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            paths.append(str(folder / name))
    return paths


def timed(command: list[str], **more) -> tuple[float, float]:
    """Wall and CPU seconds."""
    before, begun = os.times(), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    wall, after = time.monotonic() - begun, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirror", type=Path, default=Path("target/release/mirror"))
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    mirror = str(options.mirror.resolve())
    environment = {**os.environ, "MIRROR_UPSTREAM__SPARSE": "", "MIRROR_UPSTREAM__GIT": "", "MIRROR_LOG": "error"}
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        paths = fill(data / "blobs", [(50_000, 4000), (8_000_000, 40)])
        listed = Path(scratch) / "list"
        listed.write_text("\0".join(paths))
        verify = [mirror, "verify", "--data-dir", str(data)]
        print("load", os.getloadavg()[0], "files", len(paths))
        for _ in range(options.runs):
            for name, command in [
                ("sha256sum", ["xargs", "-0", "-a", str(listed), "sha256sum"]),
                ("verify", verify),
                ("verify on one core", ["taskset", "-c", "0", *verify]),
            ]:
                wall, cpu = timed(command, env=environment)
                print(f"{name}: {wall:.2f} s, {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
