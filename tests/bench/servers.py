"""The servers under test, each a process of ours on a free port, ended by its id."""
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

WAIT = 30  # seconds for a server to start or to end


def environment(**more):
    """What a child gets: nothing that changes cargo, and no proxy between it and loopback."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CARGO_", "MIRROR_")) and not name.lower().endswith("_proxy")
    }
    return {**kept, **more}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    """Of a process with its children, ended threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_seconds(int(child)) for child in children)


class Server:
    """A process that runs until `end`."""

    def __init__(self, command, log, **how):
        self.log = log
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log.open("wb"), stderr=subprocess.STDOUT, **how
        )

    def cpu_seconds(self):
        """So far; None where /proc does not tell."""
        try:
            return cpu_seconds(self.process.pid)
        except OSError:
            return None

    def most_resident(self):
        """MiB of memory at the worst moment so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) >> 10

    def wait_until(self, ready):
        until = time.monotonic() + WAIT
        while not ready():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{self.process.args[0]} did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.01)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_mirror(binary, upstream, directory):
    """Index files count as fresh for an hour, so that only the mirror itself is measured."""
    directory.mkdir()
    log = directory / "log"
    settings = environment(
        MIRROR_UPSTREAM__SPARSE=f"sparse+http://{upstream}/index/",
        MIRROR_DATA_DIR=str(directory / "data"),
        MIRROR_INDEX__SPARSE_MAX_AGE="1h",
    )
    mirror = Server([str(binary), "serve", "--listen", "127.0.0.1:0"], log, cwd=directory, env=settings)
    said = "listening on http://"
    try:
        mirror.wait_until(lambda: said in log.read_text())
    except BaseException:
        mirror.end()
        raise
    mirror.address = log.read_text().split(said, 1)[1].split()[0]
    return mirror


def start_nginx(registry, directory):
    """nginx with the same files, tuned for them; or None if there is none."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    registry.lay_out(directory / "www")
    address = f"127.0.0.1:{free_port()}"
    own = directory / "own"
    own.mkdir(parents=True)
    temporary = "".join(
        f"{kind}_temp_path {own}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"""{"user root;" if os.geteuid() == 0 else ""} worker_processes 2; daemon off; pid {own}/pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65; keepalive_requests 1000000; etag on;
  open_file_cache max=20000 inactive=60s; default_type application/octet-stream; {temporary}
  server {{ listen {address}; root {directory}/www;
    location = /index/config.json {{ default_type application/json;
      return 200 '{{"dl":"http://$http_host/api/v1/crates","api":null}}'; }} }} }}
"""
    )
    nginx = Server([program, "-c", str(configuration), "-p", str(own)], directory / "log")
    nginx.address = address
    try:
        nginx.wait_until(lambda: answers(address))
    except BaseException:
        nginx.end()
        raise
    return nginx


def answers(address):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
