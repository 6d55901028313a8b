"""The chains, running: a direct call, one plain Envoy, foreign gateways before our sidecar, and ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import RSAKey
from tests.real.up import Up, children_of, development_jwks, free_port

from bench.chain import config
from bench.chain.config import Files, Level
from bench.chain.process import PROXY_CPU, pinned, until_open
from isthmus.identity.authority import private_key
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.store import load_or_create
from isthmus.identity.validate import Csr
from isthmus.proxy.envoy import find_envoy
from isthmus.proxy.place import Folders
from isthmus.state import StateDir


@dataclass(frozen=True)
class Contender:
    """One chain. ``proxies``: the processes that a request passes, without load and program."""

    name: str
    url: str
    proxies: tuple[int, ...]
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Ground:
    folder: Path
    up: Up
    app_port: int
    sidecar: str
    files: Files


@contextmanager
def running(level: Level, folder: Path) -> Iterator[tuple[Contender, ...]]:
    """Everything started and open; ended with the block. What cannot do ``level`` is not among them."""
    with ExitStack() as stack:
        app_port = free_port()
        _start(
            stack, folder, "app", app_port, lambda file: ("nginx", "-c", file), config.nginx_app(app_port, folder), 1
        )
        ground = stack.enter_context(_mesh(level, folder, app_port))
        token = ground.up.token(config.ISSUER) if level >= Level.TOKEN else ""
        headers = (f"Authorization: Bearer {token}",) if token else ()
        found = [Contender("direct", f"http://127.0.0.1:{app_port}/app", ())]
        found.append(_one_hop(stack, ground))
        for name, build in (("HAProxy, sidecar", _haproxy), ("nginx, sidecar", _nginx)):
            made = build(stack, level, ground)
            if made is not None:
                found.append(Contender(name, made.url, made.proxies, headers))
        found.append(_ours(level, ground, headers))
        yield tuple(found)


def _start(
    stack: ExitStack, folder: Path, name: str, port: int, argv: Callable[[str], tuple[str, ...]], text: str, cpu: int
) -> int:
    file = folder / (name if "." in name else f"{name}.conf")
    file.write_text(text)
    log = stack.enter_context((folder / f"{name}.out").open("wb"))
    process = subprocess.Popen(pinned(cpu, *argv(str(file))), stdout=log, stderr=log, cwd=folder)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    until_open(port, process)
    return process.pid


@contextmanager
def _mesh(level: Level, folder: Path, app_port: int) -> Iterator[_Ground]:
    state = folder / "state"
    jwks = development_jwks(state, folder / "jwks.json")
    manifests = config.mesh_manifests(level, app_port)
    issuers = ("--jwks", f"{config.ISSUER}={jwks}") if level >= Level.TOKEN else ()
    with Up(folder, manifests, *issuers) as up:
        for pid in children_of(up.process.pid):
            subprocess.run(("taskset", "-a", "-p", "-c", str(PROXY_CPU), str(pid)), capture_output=True, check=False)
        sidecar = up.workload("app-1")["inbound"].values()
        yield _Ground(folder, up, app_port, next(iter(sidecar)), _files(up.state, jwks, folder))


def _files(state: Path, jwks: Path, folder: Path) -> Files:
    """A certificate of the mesh for the foreign gateways, by the mesh's own authority; the same at their edge."""
    now = datetime.now(UTC)
    authority = load_or_create(StateDir.at(state), "cluster.local", now)
    client, edge = folder / "client.pem", folder / "edge.pem"
    for file in (client, edge):
        key = ec.generate_private_key(ec.SECP256R1())
        csr = Csr(key.public_key())
        if file is client:
            chain = authority.issue(csr, SpiffeId.parse(config.FOREIGN_ID), timedelta(hours=12), now).chain
        else:
            chain = authority.issue_server(csr, ("localhost",), timedelta(hours=12), now).chain
        file.write_text("".join(chain) + private_key(key).pem.decode())
        file.chmod(0o600)
    token_key = folder / "token.pem"
    public = RSAKey.import_key(json.loads(jwks.read_text())["keys"][0]).public_key
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    token_key.write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    return Files(edge, client, state / "ca" / "root.pem", token_key)


def _url(level: Level, port: int) -> str:
    return f"{'https' if level >= Level.MUTUAL_TLS else 'http'}://127.0.0.1:{port}/app"


def _one_hop(stack: ExitStack, ground: _Ground) -> Contender:
    port = free_port()
    text = config.envoy_hop(port, ground.app_port)
    argv = (str(find_envoy()), "--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c")
    pid = _start(stack, ground.folder, "hop.yaml", port, lambda file: (*argv, file), text, PROXY_CPU)
    return Contender("one plain Envoy", f"http://127.0.0.1:{port}/app", (pid,))


def _haproxy(stack: ExitStack, level: Level, ground: _Ground) -> Contender:
    port = free_port()
    text = config.haproxy(level, port, ground.sidecar, ground.files)
    pid = _start(stack, ground.folder, "haproxy", port, lambda file: ("haproxy", "-db", "-f", file), text, PROXY_CPU)
    return Contender("", _url(level, port), (pid, _envoy(ground, "sidecar~shop~app-1")))


def _nginx(stack: ExitStack, level: Level, ground: _Ground) -> Contender | None:
    if level >= Level.TOKEN:
        return None
    port = free_port()
    text = config.nginx_gateway(level, port, ground.sidecar, ground.files, ground.folder)
    pid = _start(stack, ground.folder, "nginx", port, lambda file: ("nginx", "-c", file), text, PROXY_CPU)
    return Contender("", _url(level, port), (pid, _envoy(ground, "sidecar~shop~app-1")))


def _ours(level: Level, ground: _Ground, headers: tuple[str, ...]) -> Contender:
    _, port = ground.up.gateway(443 if level >= Level.MUTUAL_TLS else 80)
    pids = (_envoy(ground, "gateway~edge~edge"), _envoy(ground, "sidecar~shop~app-1"))
    return Contender("Isthmus", _url(level, port), pids, headers)


def _envoy(ground: _Ground, proxy: str) -> int:
    folders = Folders(ground.up.state, (ground.up.state / "run").readlink())
    bootstrap = str(folders.bootstrap(proxy))
    for pid in children_of(ground.up.process.pid):
        if bootstrap in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"):
            return pid
    raise RuntimeError(f"{proxy} does not run")
