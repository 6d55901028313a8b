"""Host names in manifests: what they mean, whether they are well formed, and what is meant by a wrong one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from ipaddress import ip_address

from isthmus.config.decode import checked, text
from isthmus.diag import Code, Located, Report, Severity
from isthmus.model.cluster import Service
from isthmus.model.mesh import Mesh
from isthmus.model.settings import Settings

NOT_FOUND = Code(
    "IST0101",
    Severity.ERROR,
    "Referenced resource not found",
    'no {kind} named "{name}"{hint}',
    what="The manifest names a resource that none of the manifests declares.",
    why="Requests that should go there are answered with 503, or never reach the rule.",
    example="route:\n  - destination: {host: cart}   # the Service is called carts",
    fix="Correct the name, or add the resource. A name without a dot is looked for in the rule's own namespace.",
    stops=False,
)


def full_host(written: str, namespace: str, settings: Settings) -> str:
    """The full name that ``written`` means in a rule of ``namespace``.

    A name without a dot is a service of the rule's own namespace; any other stands as it is, as in Istio
    (pilot/pkg/model/config.go, ResolveShortnameToFQDN): ``orders.shop`` is not ``orders.shop.svc.cluster.local``.
    """
    host = written.lower().removesuffix(".")
    if host == "*" or "." in host or ":" in host:
        return host
    return f"{host}.{namespace}.{settings.service_domain}"


def find_service(written: str, namespace: str, mesh: Mesh, at: Located, report: Report) -> Service | None:
    """The service that ``written`` means in a rule of ``namespace``; None, and IST0101, if there is none."""
    service = mesh.services.get(full_host(written, namespace, mesh.settings))
    if service is None:
        report.add(NOT_FOUND, at, kind="service", name=written, hint=_service_hint(written, namespace, mesh))
    return service


def _service_hint(written: str, namespace: str, mesh: Mesh) -> str:
    if "." not in written:
        domain = f".{namespace}.{mesh.settings.service_domain}"
        local = [host.removesuffix(domain) for host in mesh.services if host.endswith(domain)]
        elsewhere = [host for host in mesh.services if host.startswith(f"{written}.")]
        return hint(written, local) or hint(written, elsewhere, 0.0)
    shortened = [host for host in mesh.services if host.startswith(f"{written}.")]
    return hint(written, shortened, 0.0) or hint(written, mesh.services)


def hint(written: str, candidates: Iterable[str], cutoff: float = 0.6) -> str:
    """``(did you mean "carts"?)`` with a blank before it, or nothing."""
    close = difflib.get_close_matches(written, list(candidates), 1, cutoff)
    return f' (did you mean "{close[0]}"?)' if close else ""


_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def is_ip(written: str) -> bool:
    try:
        ip_address(written)
    except ValueError:
        return False
    return True


def name_problem(written: str) -> str | None:
    """What is wrong with a DNS name or IP address (RFC 1123, and underscores as Istio takes them)."""
    if is_ip(written):
        return None
    name = written.removesuffix(".")
    if len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split(".")):
        return None
    return f'"{written}" is not a host name'


def wildcard_problem(written: str) -> str | None:
    """Like :func:`name_problem`, but ``*`` and a leading ``*.`` are good."""
    if written == "*":
        return None
    rest = written.removeprefix("*.")
    if "*" in rest:
        return f'"{written}": a wildcard stands only as "*" or as a leading "*."'
    if rest != written and is_ip(rest):
        return f'"{written}" is not a host name'
    return name_problem(rest)


host_name = checked(text, name_problem)
wildcard_host = checked(text, wildcard_problem)


_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def namespace_problem(name: str) -> str | None:
    return None if _NAMESPACE.fullmatch(name) else f'"{name}" is not the name of a namespace'
