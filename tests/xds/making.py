"""Manifests to a Mesh, and what a proxy of it gets, as messages."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from textwrap import dedent
from typing import Any

from isthmus.compile import Compiled, Compiler
from isthmus.config.load import load
from isthmus.control.offline import offline_world
from isthmus.diag import Origin, Ref, Source
from isthmus.envoy_api import unpack
from isthmus.model.mesh import Mesh
from isthmus.model.world import World
from isthmus.xds.context import Context
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot, message
from isthmus.xds.translate import translate

HCM = "envoy.filters.network.http_connection_manager"


def origin(name: str = "test", kind: str = "Test") -> Origin:
    return Origin(Ref(kind, "shop", name), Source("test.yaml", 1, 1))


def compiled(*texts: str) -> Compiled:
    """One or more documents a text, in namespace ``shop`` unless they say otherwise."""
    whole = "\n---\n".join(dedent(text).strip("\n") for text in texts)
    loaded = load(["-"], namespace="shop", stdin=BytesIO(whole.encode()))
    return Compiler().compile(loaded.documents, {}, loaded.broken)


def networking(kind: str, name: str, spec: str, namespace: str = "shop") -> str:
    return _document("networking.istio.io/v1", kind, name, spec, namespace)


def security(kind: str, name: str, spec: str, namespace: str = "shop") -> str:
    return _document("security.istio.io/v1", kind, name, spec, namespace)


def service(name: str, ports: str = "{name: http, port: 8080}", namespace: str = "shop") -> str:
    return _document("v1", "Service", name, f"{{selector: {{app: {name}}}, ports: [{ports}]}}", namespace)


def entry(name: str, namespace: str = "shop", **labels: str) -> str:
    """A workload of this machine: ``app`` is its name up to the first dash unless said."""
    labels = {"app": name.partition("-")[0], **labels}
    pairs = ", ".join(f"{key}: {value}" for key, value in labels.items())
    return networking("WorkloadEntry", name, f"{{address: 127.0.0.1, labels: {{{pairs}}}}}", namespace)


def mesh_config(settings: str) -> str:
    body = dedent(settings).strip("\n").replace("\n", "\n    ")
    return (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n"
        f"data:\n  mesh: |\n    {body}\n"
    )


def gateway(name: str = "edge", hosts: str = "shop.example.com", port: int = 80, namespace: str = "shop") -> str:
    server = f"{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['{hosts}']}}"
    return networking("Gateway", name, f"{{selector: {{app: edge}}, servers: [{server}]}}", namespace)


def _document(version: str, kind: str, name: str, spec: str, namespace: str) -> str:
    body = dedent(spec).strip("\n").replace("\n", "\n  ")
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {body}\n"


@dataclass(frozen=True)
class Given:
    """What one proxy is given."""

    snapshot: Snapshot

    def listener(self, name: str) -> Any:
        return message(self.snapshot.of(LISTENER)[name])

    def cluster(self, name: str) -> Any:
        return message(self.snapshot.of(CLUSTER)[name])

    def endpoints(self, name: str) -> list[tuple[str, int]]:
        assignment: Any = message(self.snapshot.of(ENDPOINT)[name])
        return [_address(one) for locality in assignment.endpoints for one in locality.lb_endpoints]

    def virtual_hosts(self, name: str) -> dict[str, Any]:
        """Of a route configuration, by name."""
        configuration: Any = message(self.snapshot.of(ROUTE)[name])
        return {host.name: host for host in configuration.virtual_hosts}

    def names(self, type_url: str) -> list[str]:
        return list(self.snapshot.of(type_url))


def _address(endpoint: Any) -> tuple[str, int]:
    found = endpoint.endpoint.address.socket_address
    return found.address, found.port_value


def hcm_of(chain: Any) -> Any:
    """The HTTP connection manager of a filter chain."""
    (packed,) = (one.typed_config for one in chain.filters if one.name == HCM)
    return unpack(packed)


def given(mesh: Mesh, proxy: str, world: World | None = None) -> Given:
    found = mesh.find_proxy(proxy)
    assert found is not None, f"no proxy {proxy} among {[one.id for one in mesh.proxies]}"
    return Given(translate(mesh, world or offline_world(mesh), found))


def given_by(proxy: str, *texts: str) -> Given:
    """What ``proxy`` gets of these manifests, in the made-up world of ``isthmus compile``."""
    return given(compiled(*texts).mesh, proxy)


def context_of(mesh: Mesh, proxy: str, world: World | None = None) -> Context:
    found = mesh.find_proxy(proxy)
    assert found is not None
    return Context(mesh, world or offline_world(mesh), found)
