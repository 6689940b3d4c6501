"""`git http-backend` behind a small server on a free port of 127.0.0.1: plays upstream, and is what the mirror is compared with.

`python3 git_backend.py ROOT` serves the repositories below ROOT and prints its address.
"""
import http.server
import os
import subprocess
import sys
import threading

PIECE = 64 << 10


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = ""

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self):
        path, _, query = self.path.partition("?")
        body = self.body()
        environment = dict(
            os.environ,
            GIT_PROJECT_ROOT=self.root,
            GIT_HTTP_EXPORT_ALL="1",
            PATH_INFO=path,
            QUERY_STRING=query,
            REQUEST_METHOD=self.command,
            CONTENT_TYPE=self.headers.get("content-type", ""),
            CONTENT_LENGTH=str(len(body)),
            GIT_PROTOCOL=self.headers.get("git-protocol", ""),
            HTTP_CONTENT_ENCODING=self.headers.get("content-encoding", ""),
        )
        command = ["git", "-c", "uploadpack.allowAnySHA1InWant=true", "http-backend"]
        backend = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        feeding = threading.Thread(target=feed, args=(backend.stdin, body))
        feeding.start()
        status, headers = 200, []
        while line := backend.stdout.readline().strip():
            name, value = line.decode().split(": ", 1)
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self.send_response(status)
        for name, value in [*headers, ("Transfer-Encoding", "chunked")]:
            self.send_header(name, value)
        self.end_headers()
        try:
            while piece := backend.stdout.read1(PIECE):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            backend.kill()  # the client has gone
            self.close_connection = True
        feeding.join()
        backend.wait()

    do_GET = do_POST = answer


def feed(stdin, body):
    try:
        stdin.write(body)
        stdin.close()
    except OSError:
        pass  # the backend says in its answer what it did not like


def main():
    Backend.root = sys.argv[1]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
