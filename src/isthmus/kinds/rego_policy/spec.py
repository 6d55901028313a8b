"""The spec of a RegoPolicy, read: what it is attached to, where its Rego comes from, what is sent of a request."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import (
    Reader,
    anything,
    boolean,
    checked,
    fail,
    integer,
    optional,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.rego_policy.bundle import BUNDLE, BundleSpec, word
from isthmus.kinds.rego_policy.decision_log import DECISION_LOG, DecisionLogSpec
from isthmus.kinds.shape.attach import ATTACH_FIELDS, TargetSpec
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.selector import Selector
from isthmus.model.rego import DEFAULT_PATH, DEFAULT_TIMEOUT

_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_MOST_BODY = 1 << 20
_LONGEST = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class BodySpec:
    at: Node
    max_request_bytes: int
    allow_partial_message: bool
    pack_as_bytes: bool


@dataclass(frozen=True, slots=True)
class RegoPolicySpec:
    """``data``: JSON text of an object."""

    at: Node
    selector: Selector | None
    target_refs: tuple[TargetSpec, ...]
    provider: str | None
    path: str
    rego: str | None
    data: str
    bundle: BundleSpec | None
    with_request_body: BodySpec | None
    timeout: timedelta
    dry_run: bool
    decision_log: DecisionLogSpec | None


def _path_problem(value: str) -> str | None:
    if _PATH.fullmatch(value):
        return None
    return f'"{value}" is no path of a rule: it is written envoy/authz/allow, for data.envoy.authz.allow'


def _bytes_problem(value: int) -> str | None:
    return None if 0 < value <= _MOST_BODY else f"a policy is given at least 1 and at most {_MOST_BODY} bytes of a body"


def _timeout_problem(value: timedelta) -> str | None:
    return None if value <= _LONGEST else "a request does not wait longer than 60s for a decision"


def _data(written: Node, node: Node, report: Report) -> str:
    if not written.is_mapping:
        raise fail(report, node, "data is an object: its entries are what the policy reads as data.…")
    try:
        return json.dumps(written.plain(), allow_nan=False)
    except (TypeError, ValueError):
        raise fail(report, node, "data holds something that JSON does not have") from None


def _whole(spec: RegoPolicySpec, node: Node, report: Report) -> RegoPolicySpec:
    if (spec.rego is None) == (spec.bundle is None):
        raise fail(report, node, "the policy is written under rego, or comes from a bundle: one of the two")
    if spec.provider is not None and (spec.selector is not None or spec.target_refs):
        raise fail(report, node.at("provider"), "it is asked by name, or where selector or targetRefs say: one of them")
    if spec.bundle is not None and node.get("data") is not None:
        raise fail(report, node.at("data"), "a bundle brings its own data")
    return spec


_BODY = record(
    BodySpec,
    required(
        "maxRequestBytes", checked(integer, _bytes_problem), note="at most 1 MiB; a longer body is 413, or partial"
    ),
    optional("allowPartialMessage", boolean, False, note="a longer body is cut off: input.truncated_body"),
    optional("packAsBytes", boolean, False, note="as raw_body, in base64; text that is not UTF-8 is lost otherwise"),
)
SPEC: Reader[RegoPolicySpec] = converted(
    record(
        RegoPolicySpec,
        *ATTACH_FIELDS,
        optional("provider", word, note="instead: the name by which CUSTOM AuthorizationPolicies ask it"),
        optional("path", checked(text, _path_problem), DEFAULT_PATH, note="of the rule that decides"),
        optional("rego", text, note="one module; or bundle"),
        optional("data", converted(anything, _data), "{}", note="an object, beside rego"),
        optional("bundle", BUNDLE, note="or rego"),
        optional("withRequestBody", _BODY, note="without it no body is sent"),
        optional("timeout", checked(positive_duration, _timeout_problem), DEFAULT_TIMEOUT, note="then 503"),
        optional("dryRun", boolean, False, note="decides and logs, and nobody is refused"),
        optional("decisionLog", DECISION_LOG),
    ),
    _whole,
)
