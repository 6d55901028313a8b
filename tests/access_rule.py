"""Rules of AccessPolicies, as a test writes them: what stands under ``rules``, read and compiled."""

from __future__ import annotations

import json
from typing import Any

from isthmus.config.node import Node
from isthmus.config.parse import parse
from isthmus.diag import Origin, Ref, Report
from isthmus.kinds.access_policy.rule import compiled
from isthmus.kinds.access_policy.spec import spec
from isthmus.kinds.authorization_policy.value import Context
from isthmus.model.access import AccessRule

CONTEXT = Context("cluster.local", "shop")


def rule(written: dict[str, Any], name: str = "rule") -> AccessRule:
    """Raises AssertionError for what is refused."""
    report = Report()
    node = parse(json.dumps({"rules": [written]}), "test", 1, report)
    assert isinstance(node, Node), list(report)
    try:
        (read,) = spec.read(node, report).rules
    except Exception as refused:
        raise AssertionError([str(one) for one in report]) from refused
    return compiled(read, name, CONTEXT, Origin(Ref("AccessPolicy", "shop", "p"), read.at.source))
