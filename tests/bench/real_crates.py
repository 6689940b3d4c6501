"""Real crates and their index files, out of a CARGO_HOME in which `cargo fetch` was run."""
import hashlib
import json
import re


def prefix(name):
    name = name.lower()
    if len(name) <= 2:
        return str(len(name))
    return f"3/{name[0]}" if len(name) == 3 else f"{name[:2]}/{name[2:4]}"


def index_files(home):
    """cargo keeps an index file as: u8 version, u32 format, etag\\0, then (version\\0 line\\0) each."""
    for file in sorted(home.glob("registry/index/*/.cache/**/*")):
        if file.is_file():
            parts = file.read_bytes()[5:].split(b"\0")
            yield file.name, b"".join(line + b"\n" for line in parts[2::2])


class RealCrates:
    """`crates`: (size, name, version) of each crate file whose checksum its index file has; `index`: index paths."""

    def __init__(self, home, most=400):
        self.data, self.index = {}, []
        for name, data in list(index_files(home))[:most]:
            path = f"{prefix(name)}/{name}"
            if f"index/{path}" not in self.data:
                self.index.append(path)
            self.data[f"index/{path}"] = data
        checksums = {}
        for path in self.index:
            for line in self.data[f"index/{path}"].splitlines():
                line = json.loads(line)
                checksums[line["name"], line["vers"]] = line["cksum"]
        self.crates = []
        for file in sorted(home.glob("registry/cache/*/*.crate")):
            name, version = re.match(r"(.+?)-(\d+\.\d+\.\d+.*)\.crate$", file.name).groups()
            data = file.read_bytes()
            if checksums.get((name, version)) == hashlib.sha256(data).hexdigest():
                self.crates.append((len(data), name, version))
                self.data[f"api/v1/crates/{name}/{version}/download"] = data
        self.crates = sorted(set(self.crates))

    def of_size(self, least, most):
        """The request paths of the crate files that are so large."""
        return [f"/api/v1/crates/{name}/{version}/download" for size, name, version in self.crates if least <= size <= most]

    def lay_out(self, root):
        """The files as a static server wants them."""
        for path, data in self.data.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
