"""What the credentials process of a node is told: who the consumers are, and where their keys are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from isthmus.control.introspection import introspection_settings
from isthmus.diag import Code, Diagnostic, Place, Report, Severity
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.mesh import Mesh
from isthmus.model.offer import LOCAL_NODE

if TYPE_CHECKING:
    from isthmus.control.decisions import Asked

MODULE = "isthmus.decide.client.server"

STORE_OUT_OF_REACH = Code(
    "ISM7000",
    Severity.ERROR,
    "API keys that another machine cannot check",
    "API keys are refused on {nodes}: the keys are in a file of the control plane's machine; put them into PostgreSQL "
    "(isthmus consumer store)",
    what="A ClientAuthentication takes API keys, other machines carry proxies, and the store of the keys is a file.",
    why="A key is looked up beside the proxy that meets it. What cannot be looked up is refused (503, "
    "policy-service-unavailable).",
    example="(isthmus serve --listen 10.0.0.1:15012, and isthmus proxy gateway elsewhere)",
    fix="isthmus consumer store --url-file FILE with the URL of a PostgreSQL that every machine reaches, and start the "
    "control plane again.",
    stops=False,
)


def _policies(mesh: Mesh) -> tuple[ClientAuthentication, ...]:
    return tuple(policy for policy in mesh.policies.clients if isinstance(policy, ClientAuthentication))


def processes(mesh: Mesh) -> int:
    """One: what it does is short, and what it knows need not be known twice."""
    return 1 if mesh.policies.clients else 0


def takes_api_keys(mesh: Mesh) -> bool:
    return any(policy.api_keys for policy in _policies(mesh))


def settings(asked: Asked) -> Mapping[str, Any]:
    return {
        "store": _store(asked) if takes_api_keys(asked.mesh) else None,
        "consumers": {
            key: {"groups": list(one.groups), "plan": one.plan, "certificates": list(one.certificates)}
            for key, one in asked.mesh.consumers.items()
        },
        "introspection": introspection_settings(asked),
    }


def _store(asked: Asked) -> Mapping[str, Any]:
    """A URL holds a password: it goes as the plan does, and to the process by its standard input."""
    if asked.world.credential_store is not None:
        return {"url": asked.world.credential_store}
    return {"file": True} if asked.node == LOCAL_NODE else {}


def credential_findings(mesh: Mesh, nodes: Iterable[str], store: str | None) -> Iterator[Diagnostic]:
    """``nodes``: other machines that carry proxies. ``store``: the PostgreSQL, None for a file."""
    others = sorted(set(nodes) - {LOCAL_NODE})
    if store is None and others and takes_api_keys(mesh):
        report = Report()
        policy = next(policy for policy in _policies(mesh) if policy.api_keys)
        report.add(STORE_OUT_OF_REACH, Place(policy.origin.source, policy.origin.ref), nodes=", ".join(others))
        yield from report
