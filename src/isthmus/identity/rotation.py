"""The life of roots: the next one is trusted everywhere before it signs, an old one until nothing of its lives.

As SPIRE's: prepare, activate, revoke. What is due when, and the files in ``ca/`` that remember where we are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from isthmus.errors import Refused, StateUnusable
from isthmus.identity.authority import MAX_TTL, create_intermediate, create_root, private_key
from isthmus.identity.material import (
    check_authority,
    fingerprint,
    is_key_of,
    issued_by,
    pem_of,
    read_certificates,
    read_key,
)
from isthmus.identity.retired import forget_below, retire
from isthmus.state import StateDir

ROOT = "ca/root.pem"
ROOT_KEY = "ca/root.key"
INTERMEDIATE = "ca/intermediate.pem"
INTERMEDIATE_KEY = "ca/intermediate.key"
NEXT_ROOT = "ca/next-root.pem"
NEXT_ROOT_KEY = "ca/next-root.key"
BUNDLE = "ca/bundle.pem"
"""Every root that is trusted now, the one that signs first: what a client outside the mesh is told to trust."""
OLD_ROOTS = "ca/old-roots.json"
SIGNED_UNTIL = "ca/signed-until.json"
_NEXT = "ca/next.pem"
_NEXT_KEY = "ca/next.key"

PREPARED_BEFORE = timedelta(days=30)
ACTIVATED_BEFORE = timedelta(days=7)
"""Before the end of the root; of short lives half and a sixth (SPIRE: pkg/server/ca/manager/slot.go)."""
_SLACK = timedelta(hours=1)


class Step(StrEnum):
    """What is done to the roots."""

    PREPARE = "prepare"
    ACTIVATE = "activate"
    REVOKE_OLD = "revoke-old"


@dataclass(frozen=True, slots=True)
class OldRoot:
    """A root that signs no more. ``until``: when the last of what it signed ends."""

    certificate: x509.Certificate
    until: datetime


def due(root: x509.Certificate, *, prepared: bool, now: datetime) -> Step | None:
    """What the age of ``root`` asks for."""
    left = root.not_valid_after_utc - now
    life = root.not_valid_after_utc - root.not_valid_before_utc
    if prepared:
        return Step.ACTIVATE if left < min(life / 6, ACTIVATED_BEFORE) else None
    return Step.PREPARE if left < min(life / 2, PREPARED_BEFORE) else None


def is_ours(root: x509.Certificate) -> bool:
    """Whether we made it: the next one of a user's own authority is the user's to make."""
    names = {attribute.value for attribute in root.subject}
    return {"Isthmus", "Isthmus root"} <= names


def next_root(state: StateDir) -> x509.Certificate | None:
    """The root that is prepared. Raises StateUnusable."""
    data = state.read(NEXT_ROOT)
    return None if data is None else read_certificates(str(state.within(NEXT_ROOT)), data)[0]


def prepare(state: StateDir, trust_domain: str, now: datetime) -> x509.Certificate:
    """Make the next root: trusted from now on, and signing nothing. Raises Refused: there is one already."""
    if next_root(state) is not None:
        raise Refused("a next root is prepared already: activate it")
    root, key = create_root(trust_domain, now)
    # The key first: a next root that can be seen can be activated.
    state.write_private(NEXT_ROOT_KEY, private_key(key).pem)
    state.write_private(NEXT_ROOT, pem_of(root))
    return root


def activate(state: StateDir, trust_domain: str, old: x509.Certificate, now: datetime) -> None:
    """Let the prepared root sign, by an intermediate of its own; ``old`` stays trusted while what it signed lives.

    A crash leaves the one or the other. Raises Refused: none is prepared, or its key is away.
    """
    root, key = next_root(state), state.read(NEXT_ROOT_KEY)
    if root is None:
        raise Refused("no next root is prepared: prepare one, and let every proxy hear of it")
    if key is None:
        raise Refused(f"{state.within(NEXT_ROOT_KEY)}: missing: put the key of the next root back")
    signing_key = read_key(str(state.within(NEXT_ROOT_KEY)), key)
    if not is_key_of(signing_key, root):
        raise Refused(f"{state.within(NEXT_ROOT_KEY)}: not the key of {state.within(NEXT_ROOT)}")
    check_authority(str(state.within(NEXT_ROOT)), root, trust_domain)
    add_old(state, old, signed_until(state, old, now))
    renew(state, root, key, trust_domain, now)
    finish_activation(state)


def renew(state: StateDir, root: x509.Certificate, root_key: bytes, trust_domain: str, now: datetime) -> None:
    """A new intermediate below ``root``, in place of the one that signs. Raises Refused: not the root's key."""
    signing_key = read_key(str(state.within(ROOT_KEY)), root_key)
    if not is_key_of(signing_key, root):
        raise Refused(f"{state.within(ROOT_KEY)}: not the key of the root that signs")
    _retire(state, now)
    intermediate, key = create_intermediate(trust_domain, root, signing_key, now)
    state.write_private(_NEXT_KEY, private_key(key).pem)
    state.write_private(_NEXT, pem_of(intermediate))
    finish_renewal(state)


def _retire(state: StateDir, now: datetime) -> None:
    """Keep what signs now for the lists of what it signed; where it is broken or missing there is nothing to keep."""
    chain, key = state.read(INTERMEDIATE), state.read(INTERMEDIATE_KEY)
    if chain is None or key is None:
        return
    try:
        certificate = read_certificates(str(state.within(INTERMEDIATE)), chain)[0]
        signing_key = read_key(str(state.within(INTERMEDIATE_KEY)), key)
    except StateUnusable:
        return
    if is_key_of(signing_key, certificate):
        retire(state, certificate, signing_key, now)


def finish_renewal(state: StateDir) -> None:
    """Put the next intermediate and its key in place: also where a crash left off between the two."""
    if state.read(_NEXT) is None:
        # Nothing is written where nothing is to do: a start must not fail on a disk that may only be read.
        if state.read(_NEXT_KEY) is not None:
            state.remove(_NEXT_KEY)
        return
    if state.read(_NEXT_KEY) is not None:
        state.move(_NEXT_KEY, INTERMEDIATE_KEY)
    state.move(_NEXT, INTERMEDIATE)


def finish_activation(state: StateDir) -> None:
    """Put the root that signs now in place, with its key: also where a crash left off."""
    root, chain = next_root(state), state.read(INTERMEDIATE)
    if root is None or chain is None:
        return
    if not issued_by(read_certificates(str(state.within(INTERMEDIATE)), chain)[-1], root):
        return
    if state.read(NEXT_ROOT_KEY) is not None:
        state.move(NEXT_ROOT_KEY, ROOT_KEY)
    state.move(NEXT_ROOT, ROOT)


def old_roots(state: StateDir) -> tuple[OldRoot, ...]:
    """Raises StateUnusable: the file is none of ours."""
    data = state.read(OLD_ROOTS)
    if data is None:
        return ()
    where = str(state.within(OLD_ROOTS))
    try:
        return tuple(
            OldRoot(read_certificates(where, one["root"].encode())[0], datetime.fromisoformat(one["until"]))
            for one in json.loads(data)
        )
    except (ValueError, TypeError, KeyError):
        raise StateUnusable(f"{where}: not a list of roots that were replaced") from None


def add_old(state: StateDir, root: x509.Certificate, until: datetime) -> None:
    """Remember that ``root`` is to be trusted until then."""
    others = (one for one in old_roots(state) if one.certificate != root)
    _write_old(state, (OldRoot(root, until), *others))


def drop_old(state: StateDir, now: datetime, *, force: bool = False) -> tuple[x509.Certificate, ...]:
    """Forget the old roots of which nothing lives; with ``force`` all of them. Those that were dropped."""
    known = old_roots(state)
    dropped = tuple(one for one in known if force or one.until <= now)
    if dropped:
        _write_old(state, (one for one in known if one not in dropped))
        forget_below(state, (one.certificate for one in dropped), now)
    return tuple(one.certificate for one in dropped)


def revoke_old(state: StateDir, now: datetime, *, force: bool = False) -> tuple[x509.Certificate, ...]:
    """As :func:`drop_old`, on somebody's order. Raises Refused: there is none, or certificates of its are in use."""
    known = old_roots(state)
    if not known:
        raise Refused("there is no old root")
    last = max(one.until for one in known)
    if last > now and not force:
        raise Refused(
            f"certificates that an old root signed may be in use until {last:%Y-%m-%d %H:%M}Z: wait, or --force"
        )
    return drop_old(state, now, force=force)


def _write_old(state: StateDir, roots: Iterable[OldRoot]) -> None:
    listed = [{"root": pem_of(one.certificate).decode(), "until": one.until.isoformat()} for one in roots]
    state.write_private(OLD_ROOTS, json.dumps(listed).encode())


def signed_until(state: StateDir, root: x509.Certificate, now: datetime) -> datetime:
    """When the last of what ``root`` signed ends, as far as that was written down; else as late as it can be."""
    latest = min(now + MAX_TTL, root.not_valid_after_utc)
    return min(read_signed_until(state).get(fingerprint(root), latest), latest)


def read_signed_until(state: StateDir) -> Mapping[str, datetime]:
    """By the root's fingerprint. A file that cannot be understood counts as none."""
    try:
        known = json.loads(state.read(SIGNED_UNTIL) or b"{}")
        return {str(root): datetime.fromisoformat(until) for root, until in known.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def write_signed_until(state: StateDir, root: x509.Certificate, expires: datetime, now: datetime) -> None:
    """Write down, before it leaves, that something signed below ``root`` ends then: with some to spare, so seldom."""
    known = read_signed_until(state)
    print_ = fingerprint(root)
    if print_ in known and expires <= known[print_]:
        return
    ahead = expires + max((expires - now) / 2, _SLACK)
    listed = {name: until.isoformat() for name, until in {**known, print_: ahead}.items() if until > now}
    state.write_private(SIGNED_UNTIL, json.dumps(listed).encode())
