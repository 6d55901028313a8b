"""What every machine is to run, published."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from isthmus.compile import Compiled
from isthmus.control.desired import Node, make_plan
from isthmus.control.inputs import Inputs
from isthmus.control.remote import node_plan
from isthmus.control.secret_value import secret_value
from isthmus.control.transition import Transition
from isthmus.latest import Latest
from isthmus.model.world import World
from isthmus.proxy.plan import Plan, TrustBundle, plan_version


class Plans:
    """The newest plan of this machine (:attr:`own`; None before the first), and of every other."""

    def __init__(self, node: Node, inputs: Inputs, svid_ttl: timedelta, transition: Transition | None) -> None:
        self.own: Latest[Plan | None] = Latest(None)
        self._node = node
        self._inputs = inputs
        self._svid_ttl = svid_ttl
        self._transition = transition
        self._others: dict[str, Latest[Plan | None]] = {}

    def of(self, node: str) -> Latest[Plan | None]:
        """What another machine runs; None until it carries something."""
        return self._others.setdefault(node, Latest(None))

    def publish(self, compiled: Compiled, world: World, trust: tuple[TrustBundle, ...]) -> None:
        """``trust``: what proxies trust, the own trust domain's bundle first."""

        def secret(key: str, names: tuple[str, ...]) -> bytes | None:
            return secret_value(compiled, key, names)

        known = self.own.value
        version = known.version if known is not None else 0
        plan = make_plan(compiled.mesh, world, self._node, self._svid_ttl, version, secret)
        plan = replace(plan, trust=trust, programs=tuple(sorted(self._inputs.programs.items())))
        plan = self._with_leaving(plan, known)
        if known is None or plan != known:
            self.own.set(replace(plan, version=plan_version(plan)))
        for node in {*self._inputs.offers, *self._others}:
            latest = self.of(node)
            plan = replace(node_plan(compiled.mesh, world, node, self._node, self._svid_ttl, secret), trust=trust)
            plan = self._with_leaving(plan, latest.value)
            latest.set(replace(plan, version=plan_version(plan)))

    def _with_leaving(self, plan: Plan, before: Plan | None) -> Plan:
        """With those proxies, and their programs, that run on until nobody sends to them any more."""
        if before is None or self._transition is None:
            return plan
        leaving = self._transition.gone
        return replace(
            plan,
            proxies=(*plan.proxies, *(proxy for proxy in before.proxies if proxy.id in leaving)),
            workloads=(*plan.workloads, *(workload for workload in before.workloads if workload.proxy in leaving)),
        )
