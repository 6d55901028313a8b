"""One and ten thousand AccessPolicies at one gateway: reading them, what Envoy keeps of them, a request's cost.

Every policy has a path of its own and a condition in CEL. "cost" is the gateway's processor time a request, over
requests spread evenly over all policies; with one policy, a path that all requests are under.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
from tests.real.up import Up, children_of, development_jwks, free_port

from bench.chain import config
from bench.chain.process import LOAD_CPU, cpu_nanoseconds, pinned, resident_kib, scripted, until_open
from isthmus.compile import Compiler
from isthmus.config.load import load
from isthmus.control.offline import offline_world
from isthmus.proxy.place import Folders
from isthmus.xds.translate import translate

SIZES = tuple(int(size) for size in os.environ.get("BENCH_POLICIES", "1,100,1000,10000").split(","))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = 3
CONNECTIONS = 16
ISSUER = "https://issuer.example.com"
_PROXY = "gateway~edge~edge"
_READY_SECONDS = 600.0
_DOCUMENTS_EACH = 500

_SCRIPT = """\
local number = 0
request = function()
  number = (number + 7) % COUNT
  return wrk.format("GET", string.format("/p%05d/alice", number))
end
"""


def measure() -> Iterator[tuple[str, str, list[float]]]:
    if shutil.which("wrk") is None or shutil.which("nginx") is None:
        print("  not measured: wrk and nginx are needed", file=sys.stderr)
        return
    for size in SIZES:
        yield from _compiled(size)
        with tempfile.TemporaryDirectory() as folder:
            yield from _measured(size, Path(folder))


def _policies(size: int) -> Iterator[str]:
    paths = (f"/p{number:05}/{{user}}" for number in range(size)) if size > 1 else ("/{any}/{user}",)
    for number, path in enumerate(paths):
        yield f"""\
---
apiVersion: isthmus.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: p{number:05}, namespace: edge}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  rules: [{{methods: [GET], paths: ["{path}"], when: "claims.sub == params.user"}}]
"""


def _mesh(port: int) -> str:
    return f"""\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: edge}}
spec:
  selector: {{app: edge}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: app.example.com}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app, namespace: edge}}
spec:
  hosts: [app.example.com]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: STATIC
  location: MESH_EXTERNAL
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: edge, namespace: edge}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  jwtRules: [{{issuer: "{ISSUER}"}}]
"""


def _compiled(size: int) -> Iterator[tuple[str, str, list[float]]]:
    """In this process, from text to Envoy's configuration."""
    text = _mesh(9) + "".join(_policies(size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    loaded = load(["-"], stdin=BytesIO(text.encode()))
    read = time.monotonic()
    mesh = Compiler().compile(loaded.documents).mesh
    compiled = time.monotonic()
    snapshot = translate(mesh, offline_world(mesh), mesh.proxies[0])
    translated = time.monotonic()
    if len(mesh.policies.access) != size:
        raise RuntimeError(f"{len(mesh.policies.access)} policies instead of {size}")
    said = f"{size:,} policies"
    yield f"{said}: parsed", "s", [read - started]
    yield f"{said}: read and checked", "s", [compiled - read]
    yield f"{said}: translated", "s", [translated - compiled]
    wires = sum(len(built.wire) for of_type in snapshot.resources.values() for built in of_type.values())
    yield f"{said}: the gateway's whole configuration", "kB", [wires / 1e3]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    yield f"{said}: memory of it all in the control plane, at most", "MiB", [grown / 1024]


def _measured(size: int, folder: Path) -> Iterator[tuple[str, str, list[float]]]:
    port = free_port()
    (folder / "app.conf").write_text(config.nginx_app(port, folder))
    app = subprocess.Popen(pinned(LOAD_CPU, "nginx", "-c", str(folder / "app.conf")), cwd=folder)
    try:
        until_open(port, app)
        jwks = development_jwks(folder / "state", folder / "jwks.json")
        policies = list(_policies(size))
        files = {
            f"policies-{at:05}.yaml": "".join(policies[at : at + _DOCUMENTS_EACH])
            for at in range(0, size, _DOCUMENTS_EACH)
        }
        started = time.monotonic()
        manifests = {"mesh.yaml": _mesh(port), **files}
        with Up(folder, manifests, "--jwks", f"{ISSUER}={jwks}", ready_seconds=_READY_SECONDS) as up:
            said = f"{size:,} policies"
            yield f"{said}: from start to ready", "s", [time.monotonic() - started]
            envoy = _envoy(up)
            yield f"{said}: Envoy's memory", "MiB", [resident_kib([envoy]) / 1024]
            header = f"Authorization: Bearer {up.token(ISSUER)}"
            _check(up, header)
            _cost(up, envoy, header, size, folder)
            yield f"{said}: cost", "us/request", [_cost(up, envoy, header, size, folder) for _ in range(ROUNDS)]
    finally:
        app.terminate()
        app.wait()


def _cost(up: Up, envoy: int, header: str, size: int, folder: Path) -> float:
    """Processor time a request, of which every one has to be answered with 200."""
    before = cpu_nanoseconds([envoy])
    requests = scripted(_url(up), _SCRIPT.replace("COUNT", str(size)), CONNECTIONS, SECONDS, folder, header)
    return (cpu_nanoseconds([envoy]) - before) / requests / 1e3


def _check(up: Up, header: str) -> None:
    """Raises RuntimeError unless the policies hold."""
    name, _, value = header.partition(": ")
    for path, wanted in (("p00000/alice", 200), ("p00000/bob", 403), ("p00000", 403)):
        found = httpx.get(f"{_url(up)}{path}", headers={name: value}, trust_env=False).status_code
        if found != wanted:
            raise RuntimeError(f"{path} is answered with {found}, not {wanted}")


def _url(up: Up) -> str:
    return f"http://{up.ready['gateways'][0]['listeners'][0]['address']}/"


def _envoy(up: Up) -> int:
    bootstrap = str(Folders(up.state, (up.state / "run").readlink()).bootstrap(_PROXY))
    for pid in children_of(up.process.pid):
        if bootstrap in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"):
            return pid
    raise RuntimeError(f"{_PROXY} does not run")
