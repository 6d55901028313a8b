"""Which decision services a node runs, of how many processes, and what they are told. Pure.

``DECIDERS`` has one entry for each service: beside its own module, whoever builds one adds its entry here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.control import credentials, limits, rego
from isthmus.control.asked import Asked, ReadSecret
from isthmus.model.decision import DecisionService
from isthmus.model.mesh import Mesh
from isthmus.model.world import World
from isthmus.proxy.plan import PlannedService


@dataclass(frozen=True, slots=True)
class Decider:
    """``processes``: how many answer, 0 if no policy asks. ``settings``: JSON values, the same for each of them."""

    service: DecisionService
    module: str
    processes: Callable[[Mesh], int]
    settings: Callable[[Asked], Mapping[str, Any]]


DECIDERS: tuple[Decider, ...] = (
    Decider(DecisionService.CREDENTIALS, credentials.MODULE, credentials.processes, credentials.settings),
    Decider(DecisionService.REGO, rego.MODULE, rego.processes, rego.settings),
    Decider(DecisionService.LIMITS, limits.MODULE, limits.processes, limits.settings),
)


def wanted_services(mesh: Mesh) -> dict[DecisionService, int]:
    """How many processes of each service there are on every machine; without those that nobody asks."""
    counted = {decider.service: decider.processes(mesh) for decider in DECIDERS}
    return {service: processes for service, processes in counted.items() if processes}


def planned_services(mesh: Mesh, world: World, node: str, secret: ReadSecret) -> tuple[PlannedService, ...]:
    """What ``node`` runs of them."""
    planned: list[PlannedService] = []
    for decider in DECIDERS:
        processes = decider.processes(mesh)
        if processes:
            settings = json.dumps(decider.settings(Asked(mesh, world, node, secret)), sort_keys=True)
            planned += (PlannedService(decider.service, at, decider.module, settings) for at in range(processes))
    return tuple(planned)
