"""Whether a client's certificate is good enough, by what its responder says: asked once, remembered for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from isthmus.errors import RevocationUnavailable
from isthmus.model.revocation import ClientOcsp, OcspMode
from isthmus.revocation.fetch import Fetcher
from isthmus.revocation.ocsp import CertificateStatus, OcspAnswer, build_request, read_response, responder

MOST_KEPT: Final = 10_000
"""Certificates whose answers are remembered; the one that was asked for longest ago goes first."""
_REST: Final = timedelta(seconds=5)
"""After a responder that did not answer: it is not asked again, and its certificates are as unknown as before."""


class Reason(Enum):
    """Why a client got in, or did not; the words stand in logs."""

    GOOD = "ocsp_good"
    REVOKED = "ocsp_revoked"
    UNKNOWN = "ocsp_unknown"
    """The responder does not know the certificate."""
    UNANSWERED = "ocsp_unanswered"
    NO_RESPONDER = "ocsp_no_responder"
    """Neither the certificate nor the policy names one."""
    NO_ISSUER = "ocsp_no_issuer"
    """The CA that issued it is not among the client CAs themselves, so nobody can be asked."""
    UNREADABLE = "ocsp_unreadable"


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """The last answer that was believed, if any, and what came of the last attempt to get one."""

    answer: OcspAnswer | None
    answered_at: datetime
    tried_at: datetime
    error: str = ""

    def rests(self, now: datetime) -> bool:
        """Whether it is too soon to ask again."""
        return bool(self.error) and now < self.tried_at + _REST

    def holds(self, now: datetime, max_age: timedelta) -> bool:
        """Whether its answer is to be gone by at ``now``."""
        if self.answer is None:
            return False
        end = self.answer.next_update
        return now < self.answered_at + max_age and (end is None or now < end)

    def ages(self, now: datetime, max_age: timedelta) -> bool:
        """Whether half of its time is over: the next one is then fetched while this one serves."""
        return now >= self.answered_at + max_age / 2

    @property
    def revoked(self) -> bool:
        return self.answer is not None and self.answer.status is CertificateStatus.REVOKED


_Key = tuple[bytes, bytes, str]
"""Hashes of the certificate and of its issuer, and the responder."""


class OcspDecisions:
    """Decides for one node's proxies. Many connections with one certificate are one question."""

    def __init__(self, fetcher: Fetcher, clock: Callable[[], datetime], most_kept: int = MOST_KEPT) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._most_kept = most_kept
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[_Known]] = {}

    async def decide(
        self, certificate: x509.Certificate, authorities: Sequence[x509.Certificate], policy: ClientOcsp
    ) -> Decision:
        """``authorities``: the client CAs, one of which must be the issuer itself."""
        issuer = next((one for one in authorities if _issued(certificate, one)), None)
        if issuer is None:
            return _unsure(policy, Reason.NO_ISSUER, certificate.issuer.rfc4514_string())
        url = policy.responder or responder(certificate)
        if url is None:
            return _unsure(policy, Reason.NO_RESPONDER)
        known = await self._ask(certificate, issuer, url, policy)
        if known.revoked:
            # Even if its answer has ended: who was revoked does not come back because a responder went away.
            return Decision(False, Reason.REVOKED)
        if known.answer is None or not known.holds(self._clock(), policy.max_age):
            return _unsure(policy, Reason.UNANSWERED, f"{url}: {known.error or 'its answer has ended'}")
        if known.answer.status is CertificateStatus.GOOD:
            return Decision(True, Reason.GOOD)
        return _unsure(policy, Reason.UNKNOWN, url)

    async def _ask(
        self, certificate: x509.Certificate, issuer: x509.Certificate, url: str, policy: ClientOcsp
    ) -> _Known:
        key = certificate.fingerprint(hashes.SHA256()), issuer.fingerprint(hashes.SHA256()), url
        now, known = self._clock(), self._known.get(key)
        holds = known is not None and known.holds(now, policy.max_age)
        if known is not None:
            self._known.move_to_end(key)
            if known.rests(now) or (holds and not known.ages(now, policy.max_age)):
                return known
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._fetch(key, certificate, issuer, url, policy))
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        if known is not None and holds:
            return known
        # Who asked first may hang up: the others wait for the same answer.
        return await asyncio.shield(asking)

    async def _fetch(
        self, key: _Key, certificate: x509.Certificate, issuer: x509.Certificate, url: str, policy: ClientOcsp
    ) -> _Known:
        before = self._known.get(key)
        try:
            der = await self._fetcher.fetch(url, build_request(certificate, issuer), policy.timeout)
            now = self._clock()
            answer = read_response(der, certificate, issuer, now)
            if before is not None and before.answer is not None and answer.this_update < before.answer.this_update:
                raise RevocationUnavailable("an older answer than the one before")
            known = _Known(answer, now, now)
        except RevocationUnavailable as failed:
            now = self._clock()
            known = _Known(None, now, now) if before is None else before
            known = replace(known, tried_at=now, error=str(failed))
        self._known[key] = known
        self._known.move_to_end(key)
        while len(self._known) > self._most_kept:
            self._known.popitem(last=False)
        return known


def _unsure(policy: ClientOcsp, reason: Reason, detail: str = "") -> Decision:
    return Decision(policy.mode is OcspMode.BEST_EFFORT, reason, detail)


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
