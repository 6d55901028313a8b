"""``http[].delegate``, and what a VirtualService to delegate to may not say."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.config.decode import Unreadable, fail, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Report


@dataclass(frozen=True, slots=True)
class DelegateSpec:
    """The VirtualService, without hosts, whose routes stand here. ``namespace`` None: the same."""

    at: Node
    name: str
    namespace: str | None


DELEGATE = record(DelegateSpec, required("name", text), optional("namespace", text))

_OF_THE_WHOLE = ("gateways", "tcp", "tls")
_OF_A_MATCH = ("gateways", "sourceLabels", "sourceNamespace")


def check_delegate(spec: Node, report: Report) -> None:
    """Report what a VirtualService without hosts cannot have, and raise Unreadable if there is any (as Istio does)."""
    wrong = [(spec.at(name), name) for name in _OF_THE_WHOLE if spec.get(name) is not None]
    for route in spec.at("http").items:
        if route.get("delegate") is not None:
            wrong.append((route.at("delegate"), "delegate"))
        for match in route.at("match").items:
            wrong += [(match.at(name), name) for name in _OF_A_MATCH if match.get(name) is not None]
    for at, name in wrong:
        fail(report, at, f"a VirtualService without hosts is a delegate, which can have no {name}")
    if wrong:
        raise Unreadable
