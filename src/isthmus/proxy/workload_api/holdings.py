"""The SVIDs of this machine's workloads: keys made here, certificates and tokens asked of the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from isthmus.errors import SvidInvalid
from isthmus.identity.jwt_svid import JwtSvid, read_unverified
from isthmus.proxy.credential import Certificate, certificate, request_for_identity
from isthmus.proxy.holder import LEAST_TTL, GetIssuer, now, persist, until_renewal

Wish = tuple[str, int]
"""An identity and the seconds that a certificate of it is to live."""
_MOST_TOKENS = 1024


class Holdings:
    """In memory alone. ``changed`` hears of all certificates that are there, whenever one comes or goes."""

    def __init__(
        self,
        issuer: GetIssuer,
        changed: Callable[[Mapping[Wish, Certificate]], None],
        superseded: Callable[[Certificate], bool],
    ) -> None:
        """``superseded``: whether another root signs now."""
        self._issuer = issuer
        self._superseded = superseded
        self._changed = changed
        self._jobs: dict[Wish, asyncio.Task[None]] = {}
        self._held: dict[Wish, Certificate] = {}
        self._tokens: dict[tuple[str, tuple[str, ...]], tuple[JwtSvid, timedelta]] = {}

    def want(self, wish: Wish, tasks: asyncio.TaskGroup) -> None:
        """Get a certificate, and keep it fresh until :meth:`retain` lets it go. A job raises NotEnrolled alone."""
        if wish not in self._jobs:
            self._jobs[wish] = tasks.create_task(self._keep(wish), name=f"workload {wish[0]}")

    def retain(self, wishes: Iterable[Wish]) -> None:
        """Forget every certificate that is not among them, and the tokens of every identity that is not."""
        kept = set(wishes)
        for wish in self._jobs.keys() - kept:
            self._jobs.pop(wish).cancel()
            self._held.pop(wish, None)
        identities = {identity for identity, _ in kept}
        self._tokens = {key: token for key, token in self._tokens.items() if key[0] in identities}
        self._changed(dict(self._held))

    def stop(self) -> None:
        self.retain(())

    async def token(self, identity: str, audiences: Iterable[str]) -> JwtSvid:
        """A JWT-SVID: the one there is until half of its life is over, then another.

        Raises Unreachable, NotEnrolled or CsrRejected: the control plane is away, or refuses.
        """
        key = (identity, tuple(sorted(set(audiences))))
        known = self._tokens.get(key)
        if known is not None and known[0].expires - now() > known[1] / 2:
            return known[0]
        issuer = await self._issuer()
        made = read_unverified(await issuer.fetch_jwt(identity, key[1]))
        if made.spiffe_id.uri != identity:
            raise SvidInvalid("the authority's token is for another identity")
        while len(self._tokens) >= _MOST_TOKENS:
            self._tokens.pop(next(iter(self._tokens)))
        self._tokens[key] = made, made.expires - now()
        return made

    async def _keep(self, wish: Wish) -> None:
        identity, seconds = wish
        ttl = max(timedelta(seconds=seconds), LEAST_TTL)

        async def certify() -> Certificate:
            request = request_for_identity(identity)
            issuer = await self._issuer()
            return certificate(request.key_pem, await issuer.certify_identity(request.csr_pem, ttl, identity))

        while True:
            self._held[wish] = held = await persist(f"no certificate for {identity}", certify)
            self._changed(dict(self._held))
            await until_renewal(held, self._superseded)
