"""What a running mesh cannot become: it stays as it is, and says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isthmus.compile import Compiled
from isthmus.diag import Code, Place, Report, Severity, Source
from isthmus.model.mesh import Mesh

AUTHORITY_FIXED = Code(
    "ISM2007",
    Severity.ERROR,
    "The trust domain or root namespace changed while running",
    "the trust domain ({now} → {wanted}) and the root namespace cannot change while running: nothing is changed",
    what="The mesh configuration names another trust domain or root namespace than at the start.",
    why="Every certificate in use, and every policy that names an identity, is of the one before.",
    example="(an edit of trustDomain in the ConfigMap istio while `isthmus up` runs)",
    fix="Stop, and start with the new one on a state directory of its own.",
)
PORT_PUBLISHED_TWICE = Code(
    "ISM2008",
    Severity.ERROR,
    "A published port that two gateways declare",
    "{reason}: nothing is changed",
    what="An edit makes a second gateway declare a port that `-p` publishes without naming the gateway.",
    why="Only one of them can have the port of the machine, and which one is meant cannot be told.",
    example="(`isthmus up -p 8443:443`, and an edit that adds a second Gateway with port 443)",
    fix="Start again with -p NAMESPACE/GATEWAY:HOST:DECLARED, or give the new gateway another port.",
)

NOT_IN_FORCE = Code(
    "ISM4001",
    Severity.ERROR,
    "The newest manifests could not be put into force",
    "a fault of Isthmus keeps the newest manifests from being put into force ({reason}): the last ones stay",
    what="Reading the manifests went well, and making Envoy's configuration of them did not.",
    why="It is a fault of Isthmus, and what is in force stays.",
    example="(a value that no reader refuses and no builder can take)",
    fix="Take the last edit back, and report the fault with its trace.",
)


def authority_of(mesh: Mesh) -> tuple[str, str]:
    """What the certificate authority was made for."""
    return mesh.settings.trust_domain, mesh.settings.root_namespace


def stay(before: Compiled, compiled: Compiled, why: Code, **args: Any) -> Compiled:
    """``before``, told ``why`` it is not ``compiled`` that is in force."""
    place = next((p.origin for p in compiled.mesh.proxies), None)
    report = Report()
    at = Place(place.source, place.ref) if place is not None else Place(Source("<mesh>", 1, 1))
    report.add(why, at, **args)
    return replace(before, diagnostics=(*compiled.diagnostics, *report))
