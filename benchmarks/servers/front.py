"""The one endpoint: nginx sends bodies from files, and hands listings to the lister.

A second port answers the same after a delay, for what latency does. Both listen on
127.0.0.1 only. Bodies lie in `current/BUCKET/KEY`; `?versionId=` that begins with `v1` or
`v2` reads from the folder of that name. `BUCKET.shared` beside a bucket's folder is the
body of every key that has none of its own. nginx answers Range, If-Range and If-Match
by itself; its ETag is the file's time and size in hexadecimal.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

DELAY = 0.030
"""Seconds before the delayed port answers a request."""

_CONFIGURATION = """
{modules}
daemon off;
worker_processes 2;
{user}
pid {run}/nginx.pid;
error_log {run}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  default_type application/octet-stream;
  log_format requests '$request_method $request_uri $status';
  access_log {access_log};
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  open_file_cache max=300000 inactive=600s;
  open_file_cache_valid 1s;
  client_body_temp_path {run}/body;
  proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi;
  scgi_temp_path {run}/scgi;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffers 64 32k;
  proxy_busy_buffers_size 64k;
  upstream lister {{ server 127.0.0.1:{lister}; keepalive 64; keepalive_requests 100000000; }}
  map $arg_versionId $tree {{ default current; ~^v1 v1; ~^v2 v2; }}
  map $uri $shared {{ ~^/(?<bucket>[^/]+)/ /$bucket.shared; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {bodies}/$tree;
    location / {{ {object} }}
    location ~ ^/[^/]*/?$ {{ proxy_pass http://lister; }}
  }}
  {delayed}
}}
"""

_OBJECT = """
      add_header x-amz-version-id $arg_versionId;
      try_files $uri $shared =404;
"""

_DELAYED = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {bodies}/$tree;
    location / {{ echo_sleep {delay}; echo_exec @object; }}
    location @object {{ {object} }}
    location ~ ^/[^/]*/?$ {{ echo_sleep {delay}; echo_exec @lister; }}
    location @lister {{ proxy_pass http://lister; }}
  }}
"""

_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the servers answer; `delayed` is None where nginx cannot wait."""

    plain: str
    delayed: str | None
    uploads: str
    keeps_uploads: bool
    access_log: Path | None

    def requests(self) -> list[str]:
        """Return the requests logged so far, as `METHOD TARGET STATUS`."""
        assert self.access_log is not None
        return self.access_log.read_text().splitlines()


def find_nginx() -> str | None:
    """Return nginx's path, or None where it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def serving(
    data: Path, *, keeps_uploads: bool = False, is_logging: bool = False
) -> Iterator[Endpoints]:
    """Run all servers over the folder `data` (`bodies/` and `indexes/`) during the block."""
    nginx = find_nginx()
    assert nginx is not None
    with ExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dcl-benchmarks-")))
        # nginx's workers are another user where root starts it by a system's configuration.
        run.chmod(0o755)
        lister = stack.enter_context(running("lister", str(data / "indexes")))
        sink = stack.enter_context(running("sink", *(["--keep"] if keeps_uploads else [])))
        plain, delayed = _free_ports(2)
        echo = _echo_module()
        log = run / "access.log" if is_logging else None
        bodies = data / "bodies"
        text = _CONFIGURATION.format(
            modules=f"load_module {echo};" if echo else "",
            user="user root;" if os.geteuid() == 0 else "",
            run=run,
            access_log=f"{log} requests" if log else "off",
            lister=lister,
            port=plain,
            bodies=bodies,
            object=_OBJECT,
            delayed=_DELAYED.format(port=delayed, bodies=bodies, delay=DELAY, object=_OBJECT)
            if echo
            else "",
        )
        (run / "nginx.conf").write_text(text)
        argv = [nginx, "-p", str(run), "-c", str(run / "nginx.conf")]
        argv += ["-e", str(run / "error.log")]
        stack.enter_context(_kept(argv))
        _await(plain)
        yield Endpoints(
            f"http://127.0.0.1:{plain}",
            f"http://127.0.0.1:{delayed}" if echo else None,
            f"http://127.0.0.1:{sink}",
            keeps_uploads,
            log,
        )


def _echo_module() -> str | None:
    paths = (f"{folder}/ngx_http_echo_module.so" for folder in _MODULES)
    return next((path for path in paths if os.path.exists(path)), None)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextmanager
def running(name: str, *arguments: str) -> Iterator[int]:
    """Run our own server `name` during the block; provide the port that it prints."""
    argv = [sys.executable, "-m", f"benchmarks.servers.{name}", *arguments]
    with _kept(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def _kept(argv: Sequence[str], stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server during the block, and no longer than this process, however that ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.servers.keeper", *argv],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=stdout,
        start_new_session=True,  # Ctrl-C is for the harness, which then stops its servers
    )
    with process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def _await(port: int) -> None:
    for _ in range(500):
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("HEAD", "/")
            connection.getresponse()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError("nginx did not start within 5 seconds")
