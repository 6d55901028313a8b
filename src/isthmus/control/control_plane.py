"""The control plane: what was declared and what was learnt, folded into what every proxy is to have.

One loop: something changed → compile → settle ports and keys → translate each proxy → publish. The stages meet in
``Latest`` values, so whoever is slow sees only the newest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from isthmus.compile import Compiled, Compiler
from isthmus.config.resource import Resource
from isthmus.control.desired import Node, jwks_sources
from isthmus.control.inputs import Inputs
from isthmus.control.learning import Credentials, Learning, Ports
from isthmus.control.oidc import LoginSecrets
from isthmus.control.plans import Plans
from isthmus.control.remote import entries, placed
from isthmus.control.standstill import (
    AUTHORITY_FIXED,
    NOT_IN_FORCE,
    PORT_PUBLISHED_TWICE,
    authority_of,
    stay,
)
from isthmus.control.transition import Transition
from isthmus.diag import Diagnostic, Ref
from isthmus.errors import PortTaken
from isthmus.jwks.source import JwksSource
from isthmus.latest import Latest
from isthmus.model.mesh import Mesh
from isthmus.model.offer import NOBODY
from isthmus.model.world import World
from isthmus.proxy.plan import Plan, TrustBundle
from isthmus.xds.cache import Memory
from isthmus.xds.snapshot import EMPTY, Snapshot
from isthmus.xds.translate import translate

logger = logging.getLogger(__name__)

DEBOUNCE = timedelta(milliseconds=15)
LONGEST_DEBOUNCE = timedelta(milliseconds=100)
_LONGEST_STRETCH = timedelta(milliseconds=10)
"""How long a turn keeps the event loop to itself."""


class ControlPlane:
    """Holds the newest Mesh, plan and snapshots; ``run`` keeps them so."""

    def __init__(
        self,
        node: Node,
        ports: Ports,
        credentials: Credentials,
        svid_ttl: timedelta,
        watch_jwks: Callable[[frozenset[JwksSource]], None],
        transition: Transition | None = None,
        login_secrets: LoginSecrets | None = None,
    ) -> None:
        """``transition``: somebody follows its turns and calls :meth:`see_off`; None: what is gone is gone at once."""
        self.inputs = Inputs()
        self.compiled: Latest[Compiled | None] = Latest(None)
        self.turns: Latest[int] = Latest(0)
        """Counts the rebuilds, also those that changed nothing but what there is to say."""
        self.world = World()
        self._node = node
        self._watch_jwks = watch_jwks
        self._compiler = Compiler()
        self._memory = Memory()
        self._snapshots: dict[str, Latest[Snapshot]] = {}
        self._fresh: Mapping[str, Snapshot] = {}
        self._transition = transition
        self._learning = Learning(node, self.inputs, ports, credentials, svid_ttl, transition, login_secrets)
        self._plans = Plans(node, self.inputs, svid_ttl, transition)
        self._wake = asyncio.Event()
        self.measured: Callable[[float, float], None] = lambda debounce_seconds, build_seconds: None
        """Told of every turn of :meth:`run`."""

    @property
    def mesh(self) -> Mesh:
        compiled = self.compiled.value
        return compiled.mesh if compiled is not None else Mesh()

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        compiled = self.compiled.value
        found = compiled.diagnostics if compiled is not None else ()
        inputs = self.inputs
        learnt = (*inputs.learnt, *inputs.learnt_of_logins, *inputs.rego_findings, *inputs.learnt_of_rego)
        return (*inputs.loading, *found, *learnt)

    @property
    def silent(self) -> frozenset[str]:
        """Sidecars whose local program, one that the plan starts, does not take connections yet."""
        plan = self.plan.value
        return frozenset(w.proxy for w in plan.workloads) - self.inputs.listening if plan is not None else frozenset()

    def changed(self) -> None:
        """Something in ``inputs`` is new."""
        self._wake.set()

    @property
    def trust(self) -> tuple[TrustBundle, ...]:
        """What proxies trust, the own trust domain's bundle first."""
        aliases, jwt_keys = self.mesh.settings.trust_domain_aliases, self.inputs.jwt_keys
        own = (replace(one, aliases=aliases, jwt_keys=jwt_keys) for one in self.inputs.trust)
        return (*own, *self.inputs.federated)

    def trust_changed(self) -> None:
        """``inputs.trust`` or ``inputs.federated`` is new: it goes to the nodes with the plan, at once."""
        self._publish_plan()

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """The newest snapshot of every proxy."""
        return {proxy_id: latest.value for proxy_id, latest in self._snapshots.items()}

    @property
    def plan(self) -> Latest[Plan | None]:
        """What this machine runs; None before the first turn."""
        return self._plans.own

    def node_plan(self, node: str) -> Latest[Plan | None]:
        """What another machine runs; None until it carries something."""
        return self._plans.of(node)

    def snapshot(self, proxy_id: str) -> Latest[Snapshot]:
        """The newest snapshot of a proxy; empty for one that the mesh does not have."""
        return self._snapshots.setdefault(proxy_id, Latest(EMPTY))

    async def run(self) -> None:
        """Rebuild whenever something changed, at most once per debounce: the last of many changes wins."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            began = loop.time()
            deadline = loop.time() + LONGEST_DEBOUNCE.total_seconds()
            while self._wake.is_set() and loop.time() < deadline:
                self._wake.clear()
                await asyncio.sleep(DEBOUNCE.total_seconds())
            self._wake.clear()
            debounced = loop.time()
            await self._rebuild_or_stay()
            self.measured(debounced - began, loop.time() - debounced)

    async def _rebuild_or_stay(self) -> None:
        """A fault of ours in one turn must not take the mesh down: what is in force stays, and the fault is told."""
        before = self.compiled.value
        try:
            await self._rebuild_between_others()
        except Exception as fault:
            logger.exception("the manifests could not be put into force: this is a fault of Isthmus")
            if before is not None:
                told = tuple(found for found in before.diagnostics if found.code is not NOT_IN_FORCE)
                before = replace(before, diagnostics=told)
                self.compiled.set(stay(before, before, NOT_IN_FORCE, reason=f"{type(fault).__name__}: {fault}"))
                self.turns.set(self.turns.value + 1)

    def rebuild(self, good: Mapping[Ref, Resource[Any]] | None = None) -> Compiled:
        """One turn of the loop. ``good``: the resources in force, at a start; else those of the turn before."""
        turn = self._turn(good)
        while True:
            try:
                next(turn)
            except StopIteration as done:
                compiled: Compiled = done.value
                return compiled

    async def _rebuild_between_others(self) -> None:
        """One turn, which lets everybody else have theirs: proxies confirm and connect meanwhile."""
        clock = asyncio.get_running_loop().time
        since = clock()
        for _ in self._turn(None):
            if clock() - since > _LONGEST_STRETCH.total_seconds():
                await asyncio.sleep(0)
                since = clock()

    def _turn(self, good: Mapping[Ref, Resource[Any]] | None) -> Generator[None, None, Compiled]:
        """Pauses after each proxy. What others see changes only after the last."""
        inputs = self.inputs
        before = self.compiled.value
        if before is not None:
            good = before.good
        given = (*inputs.documents, *inputs.guests)
        given = (*given, *entries(inputs.offers, frozenset(document.ref for document in given)))
        compiled = self._compiler.compile(given, good, inputs.unparsed)
        if before is not None and authority_of(compiled.mesh) != authority_of(before.mesh):
            now, wanted = before.mesh.settings.trust_domain, compiled.mesh.settings.trust_domain
            compiled = stay(before, compiled, AUTHORITY_FIXED, now=now, wanted=wanted)
        compiled = replace(compiled, mesh=self._placed(compiled.mesh))
        known = self.world if before is not None else None
        try:
            world = self._learning.learn(compiled, known)
        except PortTaken as taken:
            if before is None:
                raise
            compiled = stay(before, compiled, PORT_PUBLISHED_TWICE, reason=str(taken))
            world = self._learning.learn(compiled, known)
        mesh = compiled.mesh
        self._watch_jwks(jwks_sources(mesh))
        yield
        self._memory.begin(mesh, world)
        # All before any: a fault in one must not leave the proxies with parts of two meshes.
        fresh: dict[str, Snapshot] = {}
        for proxy in mesh.proxies:
            fresh[proxy.id] = translate(mesh, world, proxy, self._memory)
            yield
        self._memory.end()
        self.world = world
        published = self._transition.merge(self.snapshots, fresh, world) if self._transition is not None else fresh
        self._fresh = fresh
        self._publish(published)
        self.compiled.set(compiled)
        self._publish_plan()
        self.turns.set(self.turns.value + 1)
        return compiled

    def _placed(self, mesh: Mesh) -> Mesh:
        return placed(mesh, self.inputs.offers, self._node.name if self._node.runs else NOBODY)

    def see_off(self, turn: int) -> None:
        """Every caller knows by now what ``turn`` of the transition took away: let it go."""
        if self._transition is None:
            return
        self._transition.see_off(turn)
        self._publish(self._transition.apply(self._fresh))
        self._publish_plan()

    def _publish(self, snapshots: Mapping[str, Snapshot]) -> None:
        for proxy_id, found in snapshots.items():
            self.snapshot(proxy_id).set(found)
        leaving = self._transition.gone if self._transition is not None else frozenset()
        for gone in self._snapshots.keys() - snapshots.keys() - leaving:
            self._snapshots.pop(gone).set(EMPTY)

    def _publish_plan(self) -> None:
        compiled = self.compiled.value
        if compiled is not None:
            # With the trust of now, and not of the last turn: agents fetch what goes by its lists when this is new.
            listed = next((one.version for one in self.inputs.trust if one.lists), "")
            self.world = replace(self.world, own_lists=listed)
            self._plans.publish(compiled, self.world, self.trust)
