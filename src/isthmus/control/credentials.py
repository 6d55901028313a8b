"""What the credentials process of a node is told: who the consumers are, and where their keys are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.control.asked import Asked
from isthmus.control.introspection import introspection_settings
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.mesh import Mesh
from isthmus.model.offer import LOCAL_NODE

MODULE = "isthmus.decide.client.server"


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
    """A URL holds a password: it goes as the plan does, and to the process by its standard input.

    A file is of this machine: others ask for each key (``control/key_service.py``).
    """
    if asked.world.credential_store is not None:
        return {"url": asked.world.credential_store}
    return {"file": True} if asked.node == LOCAL_NODE else {"control_plane": True}
