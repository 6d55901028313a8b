"""The control plane: what was declared and what was learnt, folded into what every proxy is to have.

One loop: something changed → compile → settle ports and keys → translate each proxy → publish. The stages meet in
``Latest`` values, so whoever is slow sees only the newest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from isthmus.compile import Compiled, Compiler
from isthmus.config.resource import Resource
from isthmus.control.desired import (
    Node,
    fixed_places,
    home_decision_places,
    isolated_places,
    isolated_sidecars,
    jwks_sources,
    listening_places,
    make_plan,
    metrics_places,
    workload_api_places,
)
from isthmus.control.inputs import Inputs
from isthmus.control.oidc import LoginSecrets
from isthmus.control.remote import (
    carried,
    entries,
    left_behind,
    node_plan,
    placed,
    remote_places,
    sidecar_ids,
    unhealthy,
)
from isthmus.control.secret_value import secret_value
from isthmus.control.transition import Transition, new_places
from isthmus.diag import Code, Diagnostic, Place, Ref, Report, Severity, Source
from isthmus.errors import PortTaken
from isthmus.jwks.source import JwksSource
from isthmus.latest import Latest
from isthmus.model.mesh import Mesh
from isthmus.model.offer import NOBODY
from isthmus.model.world import Address, PortKey, World
from isthmus.proxy.plan import Plan, TrustBundle, plan_version
from isthmus.xds.cache import Memory
from isthmus.xds.snapshot import EMPTY, Snapshot
from isthmus.xds.translate import translate

logger = logging.getLogger(__name__)

AUTHORITY_FIXED = Code(
    "ISM2007",
    Severity.ERROR,
    "The trust domain or root namespace changed while running",
    "the trust domain ({now} → {wanted}) and the root namespace cannot change while running: nothing is changed",
    what="The mesh configuration names another trust domain or root namespace than at the start.",
    why="Every certificate in use, and every policy that names an identity, is of the one before.",
    example="(an edit of trustDomain in the ConfigMap istio while `isthmus up` runs)",
    fix="Stop, and start with the new one on a state directory of its own.",
)
PORT_PUBLISHED_TWICE = Code(
    "ISM2008",
    Severity.ERROR,
    "A published port that two gateways declare",
    "{reason}: nothing is changed",
    what="An edit makes a second gateway declare a port that `-p` publishes without naming the gateway.",
    why="Only one of them can have the port of the machine, and which one is meant cannot be told.",
    example="(`isthmus up -p 8443:443`, and an edit that adds a second Gateway with port 443)",
    fix="Start again with -p NAMESPACE/GATEWAY:HOST:DECLARED, or give the new gateway another port.",
)

NOT_IN_FORCE = Code(
    "ISM4001",
    Severity.ERROR,
    "The newest manifests could not be put into force",
    "a fault of Isthmus keeps the newest manifests from being put into force ({reason}): the last ones stay",
    what="Reading the manifests went well, and making Envoy's configuration of them did not.",
    why="It is a fault of Isthmus, and what is in force stays.",
    example="(a value that no reader refuses and no builder can take)",
    fix="Take the last edit back, and report the fault with its trace.",
)

DEBOUNCE = timedelta(milliseconds=15)
LONGEST_DEBOUNCE = timedelta(milliseconds=100)
_LONGEST_STRETCH = timedelta(milliseconds=10)
"""How long a turn keeps the event loop to itself."""


class Ports(Protocol):
    """Where listeners get their ports from."""

    def settle(self, wanted: Mapping[PortKey, str], taken: frozenset[PortKey]) -> Mapping[PortKey, Address]: ...


class Credentials(Protocol):
    """Where the outbound proxies' credentials come from."""

    def settle(self, proxies: Iterable[str]) -> Mapping[str, str]: ...


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
        self.plan: Latest[Plan | None] = Latest(None)
        self.world = World()
        self._credentials = credentials
        self._node = node
        self._ports = ports
        self._svid_ttl = svid_ttl
        self._watch_jwks = watch_jwks
        self._compiler = Compiler()
        self._memory = Memory()
        self._snapshots: dict[str, Latest[Snapshot]] = {}
        self._fresh: Mapping[str, Snapshot] = {}
        self._node_plans: dict[str, Latest[Plan | None]] = {}
        self._transition = transition
        self._login_secrets = login_secrets
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
        if self.compiled.value is not None:
            self._publish_plan(self.mesh)

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """The newest snapshot of every proxy."""
        return {proxy_id: latest.value for proxy_id, latest in self._snapshots.items()}

    def node_plan(self, node: str) -> Latest[Plan | None]:
        """What another machine runs; None until it carries something."""
        return self._node_plans.setdefault(node, Latest(None))

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
                self.compiled.set(_keep(before, before, NOT_IN_FORCE, reason=f"{type(fault).__name__}: {fault}"))
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
        if before is not None and _authority_of(compiled.mesh) != _authority_of(before.mesh):
            now, wanted = before.mesh.settings.trust_domain, compiled.mesh.settings.trust_domain
            compiled = _keep(before, compiled, AUTHORITY_FIXED, now=now, wanted=wanted)
        compiled = replace(compiled, mesh=self._placed(compiled.mesh))
        try:
            world = self._learn(compiled)
        except PortTaken as taken:
            if before is None:
                raise
            compiled = _keep(before, compiled, PORT_PUBLISHED_TWICE, reason=str(taken))
            world = self._learn(compiled)
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
        self._publish_plan(mesh)
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
        self._publish_plan(self.mesh)

    def _publish(self, snapshots: Mapping[str, Snapshot]) -> None:
        for proxy_id, found in snapshots.items():
            self.snapshot(proxy_id).set(found)
        leaving = self._transition.gone if self._transition is not None else frozenset()
        for gone in self._snapshots.keys() - snapshots.keys() - leaving:
            self._snapshots.pop(gone).set(EMPTY)

    def _learn(self, compiled: Compiled) -> World:
        mesh = compiled.mesh
        folders = self._node.folders
        isolated = isolated_sidecars(mesh, self._node)
        addresses = dict(self._ports.settle(listening_places(mesh, isolated), self.inputs.taken))
        addresses.update(fixed_places(mesh))
        addresses.update(metrics_places(mesh, self._node))
        addresses.update(workload_api_places(mesh, self._node))
        addresses.update(home_decision_places(mesh, self._node))
        addresses.update(remote_places(mesh, self.inputs.offers))
        if folders is not None:
            addresses.update(isolated_places(mesh, isolated, folders, redirects=self._node.redirects))
        if not self._node.runs:
            addresses = carried(mesh, addresses)
        starting = self._starting(addresses)
        self.inputs.taken = self.inputs.opened = frozenset()
        credentials = self._credentials.settle(sidecar_ids(mesh))
        jwks = {(source.issuer, source.uri): keys for source, keys in self.inputs.jwks.items()}
        sockets = str(folders.runtime) if folders is not None else ""
        unwell = unhealthy(mesh, self.inputs.well)
        return World(
            addresses,
            jwks,
            credentials,
            self._svid_ttl,
            isolated,
            sockets,
            starting,
            unhealthy=unwell,
            revoked=self.inputs.revoked | left_behind(mesh, self.inputs.evicted),
            shut_out=self.inputs.shut_out,
            crls=self.inputs.revocation.crls,
            staples=self.inputs.revocation.staples,
            unstapled=self.inputs.revocation.unstapled,
            credential_store=self.inputs.credential_store,
            rego_bundles=self.inputs.rego_bundles,
            providers=self.inputs.providers,
            login_secrets=self._login_secrets.versions(compiled) if self._login_secrets is not None else {},
        )

    def _starting(self, addresses: Mapping[PortKey, Address]) -> frozenset[PortKey]:
        """At a start what runs counts as open: who restarts the control plane takes nobody's endpoints away."""
        if self._transition is None:
            return frozenset()
        if self.compiled.value is None:
            return frozenset(key for key in new_places(addresses, World()) if not self._transition.runs(key.proxy))
        known = (self.world.starting - self.inputs.opened) & addresses.keys()
        return known | new_places(addresses, self.world)

    def _publish_plan(self, mesh: Mesh) -> None:
        known = self.plan.value
        version = known.version if known is not None else 0
        plan = make_plan(mesh, self.world, self._node, self._svid_ttl, version, self._secret)
        plan = replace(plan, trust=self.trust, programs=tuple(sorted(self.inputs.programs.items())))
        if known is not None and self._transition is not None:
            plan = _with_leaving(plan, known, self._transition.gone)
        if known is None or plan != known:
            self.plan.set(replace(plan, version=plan_version(plan)))
        for node in {*self.inputs.offers, *self._node_plans}:
            self._publish_node_plan(mesh, node)

    def _secret(self, key: str, names: tuple[str, ...]) -> bytes | None:
        return secret_value(self.compiled.value, key, names)

    def _publish_node_plan(self, mesh: Mesh, node: str) -> None:
        latest = self.node_plan(node)
        plan = replace(node_plan(mesh, self.world, node, self._node, self._svid_ttl, self._secret), trust=self.trust)
        if latest.value is not None and self._transition is not None:
            plan = _with_leaving(plan, latest.value, self._transition.gone)
        latest.set(replace(plan, version=plan_version(plan)))


def _with_leaving(plan: Plan, before: Plan, leaving: frozenset[str]) -> Plan:
    """With those proxies, and their programs, that run on until nobody sends to them any more."""
    return replace(
        plan,
        proxies=(*plan.proxies, *(proxy for proxy in before.proxies if proxy.id in leaving)),
        workloads=(*plan.workloads, *(workload for workload in before.workloads if workload.proxy in leaving)),
    )


def _authority_of(mesh: Mesh) -> tuple[str, str]:
    """What the certificate authority was made for."""
    return mesh.settings.trust_domain, mesh.settings.root_namespace


def _keep(before: Compiled, compiled: Compiled, why: Code, **args: Any) -> Compiled:
    """What a running mesh cannot become: it stays as it is, and says why."""
    place = next((p.origin for p in compiled.mesh.proxies), None)
    report = Report()
    at = Place(place.source, place.ref) if place is not None else Place(Source("<mesh>", 1, 1))
    report.add(why, at, **args)
    return replace(before, diagnostics=(*compiled.diagnostics, *report))
