"""``decisionLog`` of a RegoPolicy: that and where its decisions are told, in OPA's format."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.config.decode import Reader, checked, fail, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.rego_policy.bundle import is_plain, secret_name, url_problem, word
from isthmus.kinds.shape.conversion import converted
from isthmus.model.rego_bundle import DecisionLogging


@dataclass(frozen=True, slots=True)
class DecisionLogSpec:
    at: Node
    url: str | None
    credential_name: str | None


def _decision_log(written: DecisionLogSpec, node: Node, report: Report) -> DecisionLogSpec:
    if written.url is None and written.credential_name is not None:
        raise fail(report, node.at("credentialName"), "without url nothing is sent, so nothing needs a token")
    if written.url is not None and is_plain(written.url):
        raise fail(report, node.at("url"), "decisions hold what clients sent, and are not told over plain http")
    return written


DECISION_LOG: Reader[DecisionLogSpec] = converted(
    record(
        DecisionLogSpec,
        optional(
            "url",
            checked(text, url_problem),
            note="of a service that takes OPA's decision logs at /logs; without it: a file alone",
        ),
        optional("credentialName", word, note='a Secret with "token", sent as a bearer token'),
    ),
    _decision_log,
)


def decision_logging(spec: DecisionLogSpec | None, namespace: str) -> DecisionLogging | None:
    """``namespace``: of the RegoPolicy, and so of its Secret. None: its decisions are not logged."""
    return None if spec is None else DecisionLogging(spec.url, secret_name(namespace, spec.credential_name))
