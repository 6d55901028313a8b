"""What the settings of a node's decision services are made of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from isthmus.model.attachment import A
from isthmus.model.mesh import Mesh
from isthmus.model.offer import LOCAL_NODE
from isthmus.model.proxy import Role
from isthmus.model.world import World

ReadSecret = Callable[[str, tuple[str, ...]], bytes | None]
"""The first of some keys that the Secret ``namespace/name`` has, or None."""


def no_secret(_key: str, _names: tuple[str, ...]) -> bytes | None:
    """Where nobody may look into Secrets."""
    return None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the settings of a service are made of. ``node``: the name of the machine that runs it."""

    mesh: Mesh
    world: World
    node: str
    secret: ReadSecret

    def held(self, policies: Iterable[A]) -> tuple[A, ...]:
        """Those that may hold for a proxy of the machine: another's secrets are none of its business.

        Where gateways are, all may; the control plane's own machine has them.
        """
        here = [proxy for proxy in self.mesh.proxies if proxy.node == self.node]
        if self.node == LOCAL_NODE or any(one.role is Role.GATEWAY for one in here):
            return tuple(policies)
        return tuple(
            policy
            for policy in policies
            if any(policy.attachment.at_proxy((one.namespace,), one.labels) is not None for one in here)
        )
