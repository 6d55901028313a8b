"""The certificate authority of a running control plane: loaded, renewed, rotated, put back where it was removed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from isthmus.errors import IsthmusError, NotEnrolled, Refused, StateUnusable
from isthmus.identity import rotation
from isthmus.identity.authority import MAX_TTL, Authority
from isthmus.identity.crl import Signer
from isthmus.identity.enrolment import NotAssigned
from isthmus.identity.given import Given, read_given
from isthmus.identity.retired import retired_signers
from isthmus.identity.revoked import read_revoked
from isthmus.identity.rotation import Step
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.store import load_or_create, put_back, renew_intermediate, trusted_beside, write_bundle
from isthmus.keeping import Keeping
from isthmus.latest import Latest
from isthmus.model.settings import Settings
from isthmus.serve.revoked_list import RevokedLists
from isthmus.state import StateDir

logger = logging.getLogger(__name__)

_AUTHORITY_CHECK = timedelta(hours=1)
_STATE_CHECK = timedelta(seconds=1)
_GIVEN_CHECK = timedelta(seconds=2)
_SIGNER_CHECK = timedelta(milliseconds=200)
_SHORTEST_WAIT = timedelta(seconds=1)
"""For the plan with a new signer's list to be made: until then nobody is behind."""
_LONGEST_WAIT = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class _Coming:
    """What signs as soon as every proxy has the list of revoked certificates of its signer."""

    authority: Authority
    since: datetime


class AuthorityKeeper:
    """Holds what signs now in :attr:`latest`."""

    def __init__(
        self,
        state: StateDir,
        keeping: Keeping,
        settings: Callable[[], Settings],
        clock: Callable[[], datetime],
        given: Callable[[], Given | None],
        behind: Callable[[], tuple[str, ...]],
    ) -> None:
        """``given``: the authority that the user gives, if so. ``behind``: nodes that do not trust all of it yet.

        Raises Refused or StateUnusable: the state's authority is not one for this trust domain, or what is given is
        none.
        """
        self._state = state
        self._keeping = keeping
        self._settings = settings
        self._clock = clock
        self._given = given
        self._behind = behind
        self._taken = given()
        self._shared = False
        """Whether others than us sign below the roots of what is taken."""
        self._told = ""
        self.revoked = Latest(frozenset(one.spiffe_id.uri for one in read_revoked(state)))
        """SPIFFE IDs."""
        self.lists = RevokedLists(state, clock)
        self._former: tuple[Signer, ...] = ()
        """What the user gave before; ours are in the state."""
        self._coming: _Coming | None = None
        self.latest = Latest(self._load())
        self._sign_lists(self.latest.value)

    def _load(self) -> Authority:
        settings = self._settings()
        if self._taken is None:
            return load_or_create(self._state, settings.trust_domain, self._clock(), settings.root_namespace)
        given = self._read(self._taken)
        self._shared = _is_shared(given)
        return self._with_old(given)

    def _read(self, given: Given) -> Authority:
        settings = self._settings()
        return read_given(given, settings.trust_domain, self._clock(), settings.root_namespace)

    def _with_old(self, authority: Authority) -> Authority:
        old = trusted_beside(self._state, authority.root, self._clock())
        whole = replace(authority, others=tuple(dict.fromkeys((*authority.others, *old))))
        write_bundle(self._state, whole)
        return whole

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._renew(), self._keep_state(), self._follow_given(), self._follow_coming())

    def note(self, expires: datetime) -> None:
        """Something was signed that ends then, and has not left yet."""
        with suppress(StateUnusable):
            rotation.write_signed_until(self._state, self.latest.value.root, expires, self._clock())

    def check(self, spiffe_id: SpiffeId) -> None:
        """Raises NotAssigned: it was revoked."""
        if spiffe_id.uri in self.revoked.value:
            raise NotAssigned(f"{spiffe_id} was revoked")

    def check_certificate(self, peer: bytes) -> None:
        """Raises NotEnrolled: the certificate (PEM, verified by the handshake) was revoked."""
        serial = x509.load_pem_x509_certificate(peer).serial_number
        if serial in self.lists.latest.value.serials:
            raise NotEnrolled(f"the certificate {serial:x} was revoked")

    def _adopt(self, authority: Authority) -> None:
        """Sign with ``authority``; with another signer than before not until every proxy can tell what it revoked.

        Envoy refuses what a signer without a list signed, as soon as it has the list of another.
        """
        current, self._coming = self.latest.value, None
        self._sign_lists(authority)
        if authority.chain[:1] == current.chain[:1] or not self.lists.latest.value.in_force:
            self.latest.set(authority)
            return
        self._coming = _Coming(authority, self._clock())
        roots = (authority.root, *authority.others)
        self.latest.set(replace(current, others=tuple(root for root in roots if root != current.root)))

    def _sign_lists(self, authority: Authority) -> None:
        signing = [one for one in (authority, self.latest.value) if one.chain]
        signers = [Signer(one.chain[0], one.signing_key, one.chain[0].not_valid_after_utc) for one in signing]
        try:
            signers += retired_signers(self._state, self._clock())
        except StateUnusable as unusable:
            logger.error("no new list of revoked certificates for signers that were replaced: %s", unusable)
        signers += (one for one in self._former if one.until > self._clock())
        self.lists.signed_by(signers, shared=self._shared)

    async def _follow_coming(self) -> None:
        while True:
            await asyncio.sleep(_SIGNER_CHECK.total_seconds())
            self.sign_with_coming()

    def sign_with_coming(self) -> None:
        """Let what is coming sign, if every proxy is ready, or one has been waited for long enough."""
        if self._coming is None:
            return
        waited = self._clock() - self._coming.since
        if waited < _SHORTEST_WAIT or (self._behind() and waited < _LONGEST_WAIT):
            return
        authority, self._coming = self._coming.authority, None
        self.latest.set(authority)
        self._sign_lists(authority)

    def set_revoked(self, revoked: frozenset[str]) -> None:
        """From now on it is these."""
        self.revoked.set(revoked)

    def rotate(self, step: Step, *, force: bool = False) -> None:
        """One step of the root's rotation. Raises Refused, with what is to be done first."""
        self._refuse_given("its roots")
        authority, now = self.latest.value, self._clock()
        match step:
            case Step.PREPARE:
                rotation.prepare(self._state, authority.trust_domain, now)
            case Step.ACTIVATE:
                if (late := self._behind()) and not force:
                    raise Refused(f"not every proxy trusts the next root yet: {', '.join(late)} (or --force)")
                rotation.activate(self._state, authority.trust_domain, authority.root, now)
            case Step.REVOKE_OLD:
                rotation.revoke_old(self._state, now, force=force)
        self._adopt(self._load())

    def rotate_intermediate(self) -> None:
        """Another signing certificate, at once: what trusts the root trusts it. Raises Refused: no root key."""
        self._refuse_given("its signing certificate")
        # What the state has: another root signs there, perhaps, than signs here still.
        newest = self._coming.authority if self._coming is not None else self.latest.value
        renew_intermediate(self._state, newest, self._clock())
        self._adopt(self._load())

    @property
    def behind(self) -> tuple[str, ...]:
        """The nodes that do not trust all roots yet."""
        return self._behind()

    @property
    def given_by(self) -> str | None:
        """Where the authority is from, if it is not the state's own."""
        return self._taken.where if self._taken is not None else None

    @property
    def prepared(self) -> bool:
        """Whether a next root is there that does not sign yet."""
        return self._taken is None and rotation.next_root(self._state) is not None

    def _refuse_given(self, what: str) -> None:
        if self._taken is not None:
            raise Refused(f"the authority is given by {self._taken.where}: {what} are rotated there")

    async def _renew(self) -> None:
        """Intermediate and root are renewed long before they end."""
        while True:
            await asyncio.sleep(_AUTHORITY_CHECK.total_seconds())
            try:
                self.look()
            except IsthmusError as failed:
                logger.error("the certificate authority goes on as it was: %s", failed)

    def look(self) -> None:
        """Do what its age asks for. Raises IsthmusError."""
        if self._taken is None:
            put_back(self._state, self.latest.value)
        now = self._clock()
        for dropped in rotation.drop_old(self._state, now):
            logger.warning("the root %x is trusted no more: nothing that it signed lives", dropped.serial_number)
        self._adopt(self._load())
        root = (self._coming.authority if self._coming is not None else self.latest.value).root
        step = rotation.due(root, prepared=self.prepared, now=now)
        if step is None:
            return
        if self._taken is not None or not rotation.is_ours(root):
            logger.error("the root ends on %s, and is not ours to replace", f"{root.not_valid_after_utc:%Y-%m-%d}")
            return
        self.rotate(step)
        logger.warning("the root ends on %s: %s", f"{root.not_valid_after_utc:%Y-%m-%d}", _DONE[step])

    async def _follow_given(self) -> None:
        """Take what the user gives instead, once everybody trusts its root."""
        while True:
            await asyncio.sleep(_GIVEN_CHECK.total_seconds())
            found = self._given()
            if found is None or found == self._taken:
                continue
            try:
                self.take(found)
                self._told = ""
            except IsthmusError as failed:
                if str(failed) != self._told:
                    logger.error("the certificate authority goes on as it was: %s", failed)
                self._told = str(failed)

    def take(self, given: Given) -> None:
        """A step towards what is given now: trust it, and when everybody does, sign with it. Raises IsthmusError."""
        new, now = self._read(given), self._clock()
        current = self.latest.value
        missing = [root for root in (new.root, *new.others) if root not in (current.root, *current.others)]
        if missing:
            self.latest.set(replace(current, others=(*current.others, *missing)))
        elif current.root == new.root or not self._behind():
            if current.root != new.root:
                rotation.add_old(self._state, current.root, rotation.signed_until(self._state, current.root, now))
            # All that can fail comes first: what is half taken would not be tried again.
            whole = self._with_old(new)
            self._taken, self._shared = given, _is_shared(new)
            signer = current.chain[0]
            self._former = (
                *self._former,
                Signer(signer, current.signing_key, min(now + MAX_TTL, signer.not_valid_after_utc)),
            )
            self._adopt(whole)
            logger.warning("certificates are signed by what %s gives now", given.where)

    async def _keep_state(self) -> None:
        """Write what a full disk did not take, and what somebody removed, as soon as it can be written."""
        while True:
            await asyncio.sleep(_STATE_CHECK.total_seconds())
            self._keeping.retry()
            if self._taken is not None:
                continue
            with suppress(StateUnusable):
                if put_back(self._state, self.latest.value):
                    logger.error("%s: the authority was removed; all but its root key is back", self._state.path)


def _is_shared(given: Authority) -> bool:
    """Whether somebody else may sign below the roots, or holds one of them: a company's authority does so."""
    return given.chain[0] != given.root or bool(given.others)


_DONE = {
    Step.PREPARE: "the next one is prepared, and trusted; give clients outside the mesh `isthmus ca root`",
    Step.ACTIVATE: "the next one signs now",
}
