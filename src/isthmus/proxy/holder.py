"""The secrets of one proxy: got, kept fresh and served on its own socket."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from isthmus.errors import CsrRejected, SvidInvalid, Unreachable
from isthmus.latest import Latest
from isthmus.proxy.client_check import ClientCheck
from isthmus.proxy.credential import (
    Certificate,
    certificate,
    certificate_secret,
    is_superseded,
    renewal,
    request_for_hosts,
    request_for_identity,
    time_left,
    trust_secret,
)
from isthmus.proxy.federation_secret import federation_secrets
from isthmus.proxy.file_secret import Marks, file_secret, is_file_secret
from isthmus.proxy.issuer import Issuer
from isthmus.proxy.keep import BackOff
from isthmus.proxy.on_demand import OnDemandSecrets
from isthmus.proxy.plan import PlannedCredential, PlannedProxy, TrustBundle, trust_version
from isthmus.proxy.sds import SdsServer
from isthmus.proxy.sds_stream import Secrets, ServedSecret
from isthmus.proxy.ticket_keys import TicketKeys
from isthmus.revocation.decision import OcspDecisions
from isthmus.revocation.fetch import HttpFetcher
from isthmus.xds.secret import ALL_ROOTS, ROOT_CA, SESSION_TICKET_KEYS, SVID

LEAST_TTL = timedelta(seconds=10)
_LONGEST_SLEEP = timedelta(seconds=5)
_LOOK_AT_FILES = timedelta(seconds=2)
_log = logging.getLogger(__name__)
_chance = random.SystemRandom()
T = TypeVar("T")

GetIssuer = Callable[[], Awaitable[Issuer]]
"""The channel to the control plane, once the node has a certificate for it."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one job is for; a job whose wish changed begins anew."""

    identity: str | None
    credential: PlannedCredential | None
    ttl: timedelta


class Source(Protocol):
    """Gives SVIDs that somebody else made."""

    @property
    def svids(self) -> Latest[Mapping[str, Certificate]]:
        """By SPIFFE ID: those that there are now."""
        ...


class Holder:
    """Keeps the keys of one proxy, in memory alone."""

    def __init__(self, proxy_id: str, socket: Path, issuer: GetIssuer, source: Source | None = None) -> None:
        """``source``: who gives the proxy its SVID in the place of ``issuer``, and makes its key."""
        self._source = source
        self._proxy_id = proxy_id
        self._issuer = issuer
        self._secrets = Latest(Secrets())
        check = ClientCheck(proxy_id, self._secrets, OcspDecisions(HttpFetcher(), now))
        self._server = SdsServer(proxy_id, socket, self._secrets, check.handler(), asked=self._asked)
        self._on_demand = OnDemandSecrets(self._server.renew)
        self._ttl = LEAST_TTL
        self._tasks: asyncio.TaskGroup | None = None
        self._jobs: dict[str, tuple[_Wanted, asyncio.Task[None]]] = {}
        self._trust: tuple[TrustBundle, ...] = ()

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        for name in list(self._jobs):
            await self._drop(name)
        await self._server.stop()

    async def follow(
        self, proxy: PlannedProxy, ttl: timedelta, trust: tuple[TrustBundle, ...], tasks: asyncio.TaskGroup
    ) -> None:
        """Get and keep what the plan wants for this proxy, forget the rest. A job raises NotEnrolled alone."""
        ttl = max(ttl, LEAST_TTL)
        self._ttl, self._tasks = ttl, tasks
        wanted = {SVID: _Wanted(proxy.identity, None, ttl)}
        wanted |= {one.name: _Wanted(None, one, ttl) for one in proxy.credentials if one.at_once}
        planned = frozenset(wanted) | {ROOT_CA}
        self._on_demand.plan(proxy.credentials)
        wanted |= {one.name: _Wanted(None, one, ttl) for one in self._on_demand.wanted.values()}
        for name in [name for name, (wish, _) in self._jobs.items() if wanted.get(name) != wish]:
            await self._drop(name)
        served = {name: secret for name, secret in self._secrets.value.served.items() if name in planned}
        # From the plan, not with the certificate: the next root is trusted before anything is signed by it.
        served[ROOT_CA] = trust_secret(ROOT_CA, trust)
        self._trust = trust
        served |= {secret.name: secret for secret in federation_secrets(trust)}
        self._secrets.set(Secrets(planned, served, self._on_demand))
        for name in wanted.keys() - self._jobs.keys():
            self._begin(name, wanted[name], tasks)

    def _begin(self, name: str, wanted: _Wanted, tasks: asyncio.TaskGroup) -> None:
        task = tasks.create_task(self._keep(name, wanted), name=f"{self._proxy_id} {name}")
        self._jobs[name] = (wanted, task)

    def _asked(self, server_name: str) -> None:
        """A client named ``server_name``, and Envoy asks for its certificate."""
        credential = self._on_demand.ask(server_name)
        if credential is not None and credential.name not in self._jobs and self._tasks is not None:
            self._begin(credential.name, _Wanted(None, credential, self._ttl), self._tasks)

    def trusts(self, trust: tuple[TrustBundle, ...]) -> bool:
        """Whether whoever asked for the roots has confirmed these."""
        version = trust_version(trust)
        return not any(self._server.lacking(name, version) for name in (ROOT_CA, ALL_ROOTS))

    async def _drop(self, name: str) -> None:
        _, task = self._jobs.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _keep(self, name: str, wanted: _Wanted) -> Coroutine[Any, Any, None]:
        credential = wanted.credential
        if wanted.identity is not None:
            if self._source is not None:
                return self._take_identity(wanted.identity)
            return self._keep_identity(wanted.identity, wanted.ttl)
        if name == SESSION_TICKET_KEYS:
            return self._keep_ticket_keys()
        assert credential is not None, "a wish is for an identity or for a credential"
        if credential.development_dns is not None:
            return self._keep_development(name, credential.development_dns, wanted.ttl)
        return self._keep_files(name) if is_file_secret(name) else self._fetch(credential)

    async def _take_identity(self, uri: str) -> None:
        assert self._source is not None, "there is one"
        async for svids in self._source.svids:
            if uri in svids:
                self._serve(certificate_secret(SVID, svids[uri]))
            elif svids:
                _log.error("%s: whoever gives the SVIDs here gives none of %s: register it there", self._proxy_id, uri)

    async def _keep_identity(self, uri: str, ttl: timedelta) -> None:
        async def certify() -> Certificate:
            request = request_for_identity(uri)
            issuer = await self._issuer()
            return certificate(request.key_pem, await issuer.certify_identity(request.csr_pem, ttl, uri))

        while True:
            held = await persist(f"{self._proxy_id}: no certificate for {uri}", certify)
            self._serve(certificate_secret(SVID, held))
            await until_renewal(held, self._superseded)

    def _superseded(self, held: Certificate) -> bool:
        return is_superseded(held, self._trust)

    async def _keep_development(self, name: str, dns_names: tuple[str, ...], ttl: timedelta) -> None:
        async def certify() -> Certificate:
            request = request_for_hosts(dns_names)
            issuer = await self._issuer()
            return certificate(request.key_pem, await issuer.certify_hosts(request.csr_pem, ttl, dns_names))

        while True:
            held = await persist(f"{self._proxy_id}: no development certificate {name}", certify)
            self._serve(certificate_secret(name, held))
            await until_renewal(held, self._superseded)

    async def _keep_ticket_keys(self) -> None:
        keys = TicketKeys.first(now(), secrets.token_bytes)
        while True:
            self._serve(keys.secret(SESSION_TICKET_KEYS))
            turned = keys
            while turned is keys:
                await asyncio.sleep(_LONGEST_SLEEP.total_seconds())
                turned = keys.turned(now(), secrets.token_bytes)
            keys = turned

    async def _fetch(self, credential: PlannedCredential) -> None:
        async def fetch() -> Any:
            found = await (await self._issuer()).fetch((credential.name,))
            if credential.name not in found:
                raise Unreachable("the control plane does not have it (yet)")
            return found[credential.name]

        packed = await persist(f"{self._proxy_id}: no secret {credential.name}", fetch)
        self._serve(ServedSecret(credential.name, credential.version, packed))

    async def _keep_files(self, name: str) -> None:
        """Serve what the files of this machine hold, and again whenever they change: they are looked at every 2 s."""

        served: Marks | None = None

        async def read() -> Marks:
            files = file_secret(name)
            assert files is not None, f"{name} is of files"
            # The marks first: a change while reading then shows at the next look.
            marks = files.marks()
            if marks != served:
                self._serve(files.read())
            return marks

        while True:
            served = await persist(f"{self._proxy_id}: no secret {name}", read)
            await asyncio.sleep(_LOOK_AT_FILES.total_seconds())

    def _serve(self, *new: ServedSecret) -> None:
        value = self._secrets.value
        planned = {secret.name: secret for secret in new if secret.name in value.planned}
        if planned:
            self._secrets.set(replace(value, served={**value.served, **planned}))
        for secret in new:
            self._on_demand.give(secret)


def now() -> datetime:
    return datetime.now(UTC)


async def until_renewal(held: Certificate, superseded: Callable[[Certificate], bool] = lambda held: False) -> None:
    """Sleep until ``held``, which has just come, is to be renewed; if it is ``superseded``, in a few seconds.

    The clock is looked at again and again: a laptop that slept must not oversleep a certificate.
    """
    came, began = now(), time.monotonic()
    due = renewal(came, held.not_after, _chance)
    while True:
        left = time_left(held, came, due, now(), timedelta(seconds=time.monotonic() - began))
        if left <= timedelta():
            return
        if superseded(held):
            # Not all proxies of a mesh in the same moment.
            await asyncio.sleep(_chance.uniform(0, _LONGEST_SLEEP.total_seconds()))
            return
        await asyncio.sleep(min(left, _LONGEST_SLEEP).total_seconds())


async def persist(complaint: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until it works, 0.2 s to 2 s apart; say each new reason once. NotEnrolled is not tried again."""
    back_off = BackOff(first=0.2, last=2.0)
    said = ""
    while True:
        try:
            return await attempt()
        except (Unreachable, CsrRejected, SvidInvalid) as failed:
            if str(failed) != said:
                said = str(failed)
                _log.warning("%s: %s", complaint, said)
        await asyncio.sleep(back_off.pause(0))
