"""WorkloadRegistration (ours): processes that Isthmus did not start, and the identity that the Workload API gives them.

SPIRE calls it a registration entry; ``ttl``, ``jwtTtl`` and ``hint`` are those of its ClusterSPIFFEID.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from isthmus.config.decode import Reader, checked, duration, integer, list_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.remember import remembered
from isthmus.kinds.shape.service_account import service_account
from isthmus.model.identity import CONTROL_PLANE_SERVICE_ACCOUNT
from isthmus.model.mesh import Mesh
from isthmus.model.offer import LOCAL_NODE
from isthmus.model.registration import Selectors, WorkloadRegistration

CONTROL_PLANE_REGISTERED = Code(
    "ISM6140",
    Severity.ERROR,
    "A registration for the control plane's identity",
    'the service account "{name}" of namespace "{namespace}" is the control plane: no process is given its identity',
    what="A WorkloadRegistration names the service account that the control plane itself has.",
    why="Whoever has its identity could give every proxy its configuration.",
    example="metadata: {namespace: istio-system}\nspec:\n  serviceAccount: isthmus\n  selectors: {uid: 1000}",
    fix="Name another service account.",
    stops=False,
)
HINT_TWICE = Code(
    "ISM6141",
    Severity.WARNING,
    "Two registrations of one hint",
    'the hint "{hint}" is that of {other} too: a process that both describe is given it with the first alone',
    what="Two WorkloadRegistrations of one node have the same hint.",
    why="A program picks one of several SVIDs by its hint, so the Workload API must not show a hint twice.",
    example="spec: {hint: internal, …}   # and another registration with hint: internal",
    fix="Give each its own hint, unless no process meets the selectors of both.",
)

ANYBODY_MAY_RUN = Code(
    "ISM6142",
    Severity.WARNING,
    "A registration of a file, whoever runs it",
    "every user who may run the file can have the identity: nothing says who runs it",
    what="A WorkloadRegistration has the selectors path or sha256 alone.",
    why="They say which file a process runs, and not who controls the process: a user starts it with a library of "
    "their own, or connects first and becomes it then.",
    example="spec: {serviceAccount: backup, selectors: {path: /usr/bin/backup}}",
    fix="Say who runs it, too: uid, gid or systemdUnit.",
)

_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.(service|scope)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NODE = re.compile(r"[a-zA-Z0-9._-]{1,253}")
_LARGEST_HINT = 1024
"""SPIFFE Workload API, section 5.2.1: a hint has at most as many bytes."""
_LEAST, _LONGEST, _LONGEST_JWT = timedelta(seconds=10), timedelta(days=90), timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class SelectorsSpec:
    at: Node
    uid: int | None
    gid: int | None
    path: str | None
    sha256: str | None
    systemd_unit: str | None


@dataclass(frozen=True, slots=True)
class WorkloadRegistrationSpec:
    at: Node
    service_account: str
    node: str
    selectors: SelectorsSpec
    ttl: timedelta | None
    jwt_ttl: timedelta | None
    jwt_audiences: tuple[str, ...] | None
    hint: str


def _number_problem(number: int) -> str | None:
    return "a number of a user or group is not negative" if number < 0 else None


def _path_problem(path: str) -> str | None:
    plain = path.startswith("/") and not {"", ".", ".."} & set(path[1:].split("/"))
    return None if plain else f'"{path}" is not an absolute path without "." and ".." in it'


def _sha256_problem(digest: str) -> str | None:
    return None if _SHA256.fullmatch(digest) else "a SHA-256 is 64 hexadecimal digits, in lower case"


def _unit_problem(unit: str) -> str | None:
    return None if _UNIT.fullmatch(unit) else f'"{unit}" is not a systemd unit such as orders.service'


def _hint_problem(hint: str) -> str | None:
    return None if len(hint.encode()) <= _LARGEST_HINT else f"a hint has at most {_LARGEST_HINT} bytes"


def _node_problem(node: str) -> str | None:
    return None if _NODE.fullmatch(node) else f'"{node}" is not the name of a node'


def _audiences_problem(audiences: tuple[str, ...]) -> str | None:
    return None if all(audiences) else "an audience is not empty"


def _selectors_problem(spec: SelectorsSpec) -> str | None:
    asked = (spec.uid, spec.gid, spec.path, spec.sha256, spec.systemd_unit)
    return "without a selector every process would be meant" if all(one is None for one in asked) else None


def _lasting(longest: timedelta, said: str) -> Reader[timedelta]:
    return checked(duration, lambda value: None if _LEAST <= value <= longest else f"it lives 10s to {said}")


_SELECTORS = checked(
    record(
        SelectorsSpec,
        optional("uid", checked(integer, _number_problem), note="the user's number"),
        optional("gid", checked(integer, _number_problem), note="the group's number (its first group)"),
        optional("path", checked(text, _path_problem), note="of the executable: a script's is its interpreter's"),
        optional("sha256", checked(text, _sha256_problem), note="of the executable"),
        optional("systemdUnit", checked(text, _unit_problem), note="of the system's manager, not a user's own"),
    ),
    _selectors_problem,
)
SPEC: Reader[WorkloadRegistrationSpec] = record(
    WorkloadRegistrationSpec,
    required("serviceAccount", service_account, note="with the namespace of the metadata, the identity"),
    optional("node", checked(text, _node_problem), LOCAL_NODE, note="local: the control plane's own machine"),
    required("selectors", _SELECTORS, note="all must be true of a process; at least one is needed"),
    optional("ttl", _lasting(_LONGEST, "90 days"), note="of X.509-SVIDs; by default the mesh's"),
    optional("jwtTtl", _lasting(_LONGEST_JWT, "24h"), note="of JWT-SVIDs; by default 5m"),
    optional("jwtAudiences", checked(list_of(text, least=1), _audiences_problem), note="by default any"),
    optional("hint", checked(text, _hint_problem), "", note="by which a program tells several SVIDs apart"),
)


def apply(resources: Sequence[Resource[WorkloadRegistrationSpec]], mesh: Mesh, report: Report) -> Mesh:
    found: list[WorkloadRegistration] = []
    hints: dict[tuple[str, str], WorkloadRegistration] = {}
    for resource in resources:
        made = _registration(resource)
        if (made.namespace, made.service_account) == (mesh.settings.root_namespace, CONTROL_PLANE_SERVICE_ACCOUNT):
            at = resource.root.at("spec", "serviceAccount")
            report.add(CONTROL_PLANE_REGISTERED, at, name=made.service_account, namespace=made.namespace)
            continue
        who = made.selectors
        if who.uid is None and who.gid is None and who.systemd_unit is None:
            report.add(ANYBODY_MAY_RUN, resource.root.at("spec", "selectors"))
        if made.hint and (other := hints.setdefault((made.node, made.hint), made)) is not made:
            report.add(HINT_TWICE, resource.root.at("spec", "hint"), hint=made.hint, other=other.origin.ref)
        found.append(made)
    return replace(mesh, registrations=(*mesh.registrations, *found))


@remembered
def _registration(resource: Resource[WorkloadRegistrationSpec]) -> WorkloadRegistration:
    spec, asked = resource.spec, resource.spec.selectors
    return WorkloadRegistration(
        name=resource.name,
        namespace=resource.namespace,
        service_account=spec.service_account,
        node=spec.node,
        selectors=Selectors(asked.uid, asked.gid, asked.path, asked.sha256, asked.systemd_unit),
        origin=resource.origin,
        ttl=spec.ttl,
        jwt_ttl=spec.jwt_ttl,
        jwt_audiences=spec.jwt_audiences,
        hint=spec.hint,
    )


KIND = Kind(
    name="WorkloadRegistration",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="Processes that Isthmus did not start, and the identity that the Workload API gives them.",
)
