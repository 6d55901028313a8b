"""The lists of revoked certificates that our authority publishes: signed, kept, refreshed; and when proxies go by them.

Proxies go by them only while a certificate that may live is on them: nothing then depends on lists in a mesh where
nobody is revoked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from isthmus.control.nodes import Certified
from isthmus.errors import Refused, StateUnusable
from isthmus.identity.crl import RevocationList, Signer, are_all_listed, build_list, read_lists
from isthmus.identity.revoked import (
    Reason,
    RevokedCertificate,
    certificate_to_json,
    read_revoked_certificates,
    write_revoked_certificates,
)
from isthmus.latest import Latest
from isthmus.state import StateDir

LISTS = "ca/crl.pem"
_CHANGING = frozenset((None, Reason.CERTIFICATE_HOLD))
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lists:
    """``published``: the list of each signer of whose signature something may live, the one that signs now first."""

    published: tuple[RevocationList, ...] = ()
    revoked: tuple[RevokedCertificate, ...] = ()
    """Those that have not ended."""
    complete: bool = True
    """Whether every such signer has a list."""
    shared: bool = False
    """Whether others sign below the same roots: of what they sign there is no list, and it would be refused."""

    @property
    def serials(self) -> frozenset[int]:
        return frozenset(one.serial for one in self.revoked)

    @property
    def in_force(self) -> tuple[str, ...]:
        """What proxies verify their peers by, PEM; nothing: by no list."""
        goes = self.revoked and self.complete and not self.shared
        return tuple(one.pem for one in self.published) if goes else ()

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {
                "issuer": one.issuer,
                "number": one.number,
                "this_update": one.this_update.isoformat(),
                "next_update": one.next_update.isoformat(),
                "revoked": [certificate_to_json(entry) for entry in self.revoked if entry.serial in one.serials],
                "pem": one.pem,
            }
            for one in self.published
        ]


class RevokedLists:
    """Of one state. :attr:`latest`: what is published now."""

    def __init__(self, state: StateDir, clock: Callable[[], datetime]) -> None:
        """Raises StateUnusable: what was revoked cannot be read; to go on without it would let it in again."""
        self._state = state
        self._clock = clock
        self._signers: tuple[Signer, ...] = ()
        self._shared = False
        self._told: tuple[str, ...] = ()
        revoked = read_revoked_certificates(state)
        self.latest = Latest(Lists(read_lists(state.read(LISTS) or b""), revoked))

    def signed_by(self, signers: Iterable[Signer], *, shared: bool = False) -> None:
        """Of these something may live, the one that signs now first. ``shared``: see :class:`Lists`."""
        self._signers = tuple({one.certificate: one for one in signers}.values())
        self._shared = shared
        self.look()

    def revoke(self, found: Iterable[RevokedCertificate]) -> None:
        """Raises StateUnusable: nothing is changed."""
        new = self._unknown(found)
        if new:
            self._set(self._with(new))

    def deny(self, held: Iterable[Certified]) -> None:
        """Revoke what evicted nodes hold: also where it cannot be written down, for the nodes' own book has it too."""
        now, why = self._clock(), Reason.PRIVILEGE_WITHDRAWN
        new = self._unknown(RevokedCertificate(one.serial, now, why, one.expires) for one in held)
        if not new:
            return
        try:
            self.revoke(new)
        except StateUnusable as failed:
            logger.error("what evicted nodes hold is revoked, and not written down: %s", failed)
            self._publish(self._with(new))
            self._tell()

    def reason(self, serial: int) -> Reason | None:
        """Why a certificate is revoked; None: it is not."""
        return next((one.reason for one in self.latest.value.revoked if one.serial == serial), None)

    def _unknown(self, found: Iterable[RevokedCertificate]) -> tuple[RevokedCertificate, ...]:
        """What is held may become final; nothing else changes (RFC 5280, section 5.3.1)."""
        return tuple(one for one in found if self.reason(one.serial) in _CHANGING - {one.reason})

    def _with(self, new: tuple[RevokedCertificate, ...]) -> tuple[RevokedCertificate, ...]:
        serials = {one.serial for one in new}
        return (*(one for one in self.latest.value.revoked if one.serial not in serials), *new)

    def restore(self, serial: int) -> None:
        """Raises Refused: it is not revoked, or for good; StateUnusable: nothing is changed."""
        known = {one.serial: one for one in self.latest.value.revoked}
        if serial not in known:
            raise Refused(f"{serial:x} is not revoked")
        if known[serial].reason is not Reason.CERTIFICATE_HOLD:
            raise Refused(f"{serial:x} is revoked for good: only {Reason.CERTIFICATE_HOLD} can be taken back")
        self._set(tuple(one for one in known.values() if one.serial != serial))

    def latest_end(self) -> datetime:
        """When the last of what may live ends at the latest."""
        return max((one.certificate.not_valid_after_utc for one in self._signers), default=self._clock())

    def look(self) -> None:
        """Sign anew what is due. To be called from time to time."""
        now, before = self._clock(), self.latest.value
        revoked = tuple(one for one in before.revoked if one.until > now)
        ours = [one for signer in self._signers for one in before.published if one.is_by(signer.certificate)]
        if len(revoked) < len(before.revoked):
            with suppress(StateUnusable):
                write_revoked_certificates(self._state, revoked)
        missing = not are_all_listed(self._able(), before.published)
        if missing or len(revoked) < len(before.revoked) or any(one.is_due(now) for one in ours):
            self._publish(revoked)
        else:
            complete = are_all_listed(self._signers, before.published)
            self.latest.set(replace(before, complete=complete, shared=self._shared))
        self._tell()

    def _set(self, revoked: tuple[RevokedCertificate, ...]) -> None:
        write_revoked_certificates(self._state, revoked)
        self._publish(revoked)
        self._tell()

    def _able(self) -> tuple[Signer, ...]:
        return tuple(one for one in self._signers if one.may_sign_lists)

    def _publish(self, revoked: tuple[RevokedCertificate, ...]) -> None:
        now, before = self._clock(), self.latest.value.published
        # Rises also where the file was lost (RFC 5280, section 5.2.3).
        number = max((int(now.timestamp()), *(one.number + 1 for one in before)))
        made = [build_list(signer, revoked, number, now) for signer in self._able()]
        # Of a signer that a user took away: nobody can sign a newer one.
        left = [
            one
            for one in before
            if one.next_update > now and not any(one.is_by(signer.certificate) for signer in self._signers)
        ]
        lists = (*made, *left)
        with suppress(StateUnusable):
            self._state.write_private(LISTS, "".join(one.pem for one in lists).encode())
        self.latest.set(Lists(lists, revoked, are_all_listed(self._signers, lists), self._shared))

    def _tell(self) -> None:
        lists = self.latest.value
        silent = tuple(one.certificate.subject.rfc4514_string() for one in self._signers if not one.may_sign_lists)
        if lists.revoked and silent and silent != self._told:
            logger.error(
                "%s may sign no list of revoked certificates (cRLSign): handshakes do not refuse them, only what is "
                "behind the handshake does",
                "; ".join(silent),
            )
            self._told = silent
