"""Load, compile and translate 100, 1,000 and 10,000 routes, ten to a VirtualService: time and memory.

The edit is of one VirtualService: read, compiled and translated beside all the others, as the control plane does it.
"""

from __future__ import annotations

import gc
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from isthmus.compile import Compiler
from isthmus.config.load import Loader
from isthmus.control.offline import offline_world
from isthmus.model.mesh import Mesh
from isthmus.xds.cache import Memory
from isthmus.xds.translate import translate

SIZES = (100, 1_000, 10_000)
ROUNDS = 3
_EDITS = 3

_SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: s{n}, namespace: bench}}
spec: {{selector: {{app: s{n}}}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v{n}, namespace: bench}}
spec:
  hosts: [h{n}.example.com]
  gateways: [edge]
  http:
{routes}---
"""
_ROUTE = "    - {{match: [{{uri: {{prefix: /r{r}/}}}}], route: [{{destination: {{host: s{n}}}}}]}}\n"
_EDGE = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: bench}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
"""
_ROUTES_EACH = 10


def manifests(routes: int) -> str:
    """``routes`` routes, ten to a VirtualService, each with a Service of its own."""
    each = range(routes // _ROUTES_EACH)
    services = (
        _SERVICE.format(n=n, routes="".join(_ROUTE.format(r=r, n=n) for r in range(_ROUTES_EACH))) for n in each
    )
    return "".join((_EDGE, *services))


def measure() -> Iterator[tuple[str, str, list[float]]]:
    for size in SIZES:
        text = manifests(size)
        stages: dict[str, list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "mesh.yaml"
                file.write_text(text)
                for stage, seconds in _round(file, text):
                    stages[stage].append(seconds)
        for stage, rounds in stages.items():
            yield f"{stage}, {size} routes", "s", rounds
        yield f"peak memory after {size} routes", "MiB", [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]


def _round(file: Path, text: str) -> Iterator[tuple[str, float]]:
    loader, compiler, memory = Loader(), Compiler(), Memory()
    # As the control plane does at a start (serve/).
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    loaded = loader.load([file])
    yield "load", time.perf_counter() - started
    started = time.perf_counter()
    compiled = compiler.compile(loaded.documents)
    yield "compile", time.perf_counter() - started
    assert not compiled.errors, compiled.errors[:3]
    started = time.perf_counter()
    _translate(compiled.mesh, memory)
    yield "translate", time.perf_counter() - started
    gc.collect()
    gc.freeze()
    gc.enable()
    for number in range(_EDITS):
        file.write_text(text.replace("prefix: /r0/", f"prefix: /edited{number}/", 1))
        started = time.perf_counter()
        loaded = loader.load([file])
        yield "one edit: load", time.perf_counter() - started
        compiled = compiler.compile(loaded.documents, compiled.good)
        _translate(compiled.mesh, memory)
        yield "one edit: load, compile, translate", time.perf_counter() - started
    gc.unfreeze()


def _translate(mesh: Mesh, memory: Memory) -> None:
    (proxy,) = mesh.proxies
    world = offline_world(mesh)
    memory.begin(mesh, world)
    translate(mesh, world, proxy, memory)
    memory.end()
