"""What can differ between what runs and what was declared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isthmus.diag import Code, Severity
from isthmus.model.offer import LOCAL_NODE

CONFIGURATION = Code(
    "ISM8001",
    Severity.ERROR,
    "A proxy runs another configuration than was declared",
    "{proxy}: {kind} {name}: {difference}",
    what="A listener, cluster, route or filter of a running Envoy is not the one that the manifests make, or is one "
    "that no manifest makes.",
    why="Somebody or something beside Isthmus changed what decides who may connect and call.",
    example="(a second configuration that was put into an Envoy by hand)",
    fix="Find out who did it. End the Envoy (its pid is in `isthmus proxies`): it is started anew as declared.",
)
TRUST_STORE = Code(
    "ISM8002",
    Severity.ERROR,
    "A proxy trusts others than was declared",
    "{proxy}: {kind} {name}: {difference}",
    what="The roots that a running Envoy validates peers with, the identity that it shows, or a gateway's certificate "
    "or client CAs are not those that it was given.",
    why="Who has another root's key can be anybody; who has another certificate's key can be the gateway.",
    example="(an agent's socket that somebody else serves)",
    fix="Find out who did it, and end the Envoy: it is started anew as declared.",
)
BOOTSTRAP = Code(
    "ISM8003",
    Severity.ERROR,
    "An Envoy was started with another bootstrap",
    "{proxy}: {kind} {name}: {difference}",
    what="The file or the options that a running Envoy was started with are not those that Isthmus gives it.",
    why="A bootstrap can open listeners of its own, take its configuration from elsewhere and be changed at run time.",
    example="(envoy -c edited.json on the admin socket of a proxy)",
    fix="Find out who did it, and end the Envoy: it is started anew as declared.",
)
STATE = Code(
    "ISM8004",
    Severity.ERROR,
    "A proxy was changed by its admin interface",
    "{proxy}: {kind} {name}: {difference}",
    what="A running Envoy drains, has closed its listeners, logs more than it should, or does not answer.",
    why="It refuses traffic that it should take, or writes what passes through it to its log.",
    example="curl --unix-socket .isthmus/…/….admin -X POST http://envoy/drain_listeners",
    fix="Undo it by the admin interface, or end the Envoy: it is started anew as declared.",
)


class Kind(StrEnum):
    """The label ``kind`` of the metric."""

    LISTENER = "listener"
    CLUSTER = "cluster"
    ROUTE = "route"
    FILTER = "filter"
    SECRET = "secret"  # noqa: S105 (a kind's name)
    BOOTSTRAP = "bootstrap"
    OPTION = "option"
    STATE = "state"

    @property
    def code(self) -> Code:
        match self:
            case Kind.SECRET:
                return TRUST_STORE
            case Kind.BOOTSTRAP | Kind.OPTION:
                return BOOTSTRAP
            case Kind.STATE:
                return STATE
        return CONFIGURATION


@dataclass(frozen=True, slots=True, order=True)
class Drift:
    """One difference at one proxy. ``difference``: what was declared, and what runs."""

    proxy: str
    kind: Kind
    name: str
    difference: str
    machine: str = LOCAL_NODE
    """The node that runs it."""

    @property
    def where(self) -> str:
        """The proxy, and its machine if that is another."""
        return self.proxy if self.machine == LOCAL_NODE else f"{self.proxy} on {self.machine}"

    def __str__(self) -> str:
        code = self.kind.code
        words = {"proxy": self.where, "kind": self.kind.value, "name": self.name, "difference": self.difference}
        return f"{code.id} {code.template.format(**words)}"

    def as_json(self) -> dict[str, str]:
        return {
            "code": self.kind.code.id,
            "proxy": self.proxy,
            "machine": self.machine,
            "kind": self.kind.value,
            "name": self.name,
            "difference": self.difference,
        }
