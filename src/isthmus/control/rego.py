"""What the Rego service of a node is told: each that may hold there, as its text or where its bundle lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from isthmus import __version__
from isthmus.control.asked import Asked
from isthmus.control.bundles import bearer_token
from isthmus.model.mesh import Mesh
from isthmus.model.offer import LOCAL_NODE
from isthmus.model.rego import RegoPolicy

MODULE = "isthmus.decide.rego.server"
PROCESSES = 2
"""Of each node: one that is compiling, or that a costly decision holds up, leaves another."""


def processes(mesh: Mesh) -> int:
    return PROCESSES if mesh.policies.rego else 0


def rego_policies(mesh: Mesh) -> tuple[RegoPolicy, ...]:
    return tuple(policy for policy in mesh.policies.rego if isinstance(policy, RegoPolicy))


def policy_settings(policy: RegoPolicy, asked: Asked) -> Mapping[str, Any]:
    return {"path": policy.path, "dry_run": policy.dry_run, **_source(policy, asked), **_log(policy, asked)}


def _source(policy: RegoPolicy, asked: Asked) -> Mapping[str, Any]:
    if policy.bundle is None:
        modules = [{"file": module.file, "text": module.text} for module in policy.modules]
        return {"modules": modules, "data": json.loads(policy.data)}
    active = asked.world.rego_bundles.get(policy.key)
    return {"bundle": None if active is None else active.digest}


def _log(policy: RegoPolicy, asked: Asked) -> Mapping[str, Any]:
    if policy.log is None:
        return {}
    token = None if policy.log.credential is None else bearer_token(asked.secret, policy.log.credential)
    labels = {"id": asked.node, "app": "isthmus", "version": __version__}
    return {"log": {"url": policy.log.url, "token": token, "labels": labels}}


def settings(asked: Asked) -> Mapping[str, Any]:
    return {"policies": {policy.key: policy_settings(policy, asked) for policy in _told(asked)}}


def _told(asked: Asked) -> tuple[RegoPolicy, ...]:
    """Policies that CUSTOM ones ask are told to all: where those hold is theirs to say."""
    policies = rego_policies(asked.mesh)
    return (*asked.held(policies), *(policy for policy in policies if policy.provider is not None))


def node_bundles(asked: Asked) -> tuple[str, ...]:
    """The digests of the bundles that the node decides by: no other is its business. None of one that runs no proxy."""
    if asked.node != LOCAL_NODE and not any(proxy.node == asked.node for proxy in asked.mesh.proxies):
        return ()
    active = asked.world.rego_bundles
    return tuple(sorted({active[policy.key].digest for policy in _told(asked) if policy.key in active}))
