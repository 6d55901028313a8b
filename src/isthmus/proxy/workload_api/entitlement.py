"""What a process may be: pure matching of what is known of it with what was declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isthmus.model.registration import Selectors
from isthmus.proxy.plan import PlannedRegistration
from isthmus.proxy.workload_api.caller import Caller, Process


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One SVID that a process may have. ``svid_ttl_seconds``, ``jwt_audiences``: as of the registration."""

    identity: str
    svid_ttl_seconds: int
    jwt_audiences: tuple[str, ...] | None = None
    hint: str = ""

    def may_ask_for(self, audiences: Iterable[str]) -> bool:
        return self.jwt_audiences is None or set(audiences) <= set(self.jwt_audiences)


@dataclass(frozen=True, slots=True)
class Declared:
    """``programs``: the identity of what was started here, by the first process of each."""

    programs: Mapping[Process, str]
    registrations: tuple[PlannedRegistration, ...]
    svid_ttl_seconds: int

    @property
    def asks_for_digest(self) -> bool:
        return any(one.selectors.sha256 is not None for one in self.registrations)

    def entitlements(self, caller: Caller) -> tuple[Entitlement, ...]:
        """Its own identity first, if it descends from a program of ours, then the registrations that it meets.

        Each identity once, each hint once; none: the caller is nobody.
        """
        found: dict[str, Entitlement] = {}
        program = next((self.programs[one] for one in caller.ancestors if one in self.programs), None)
        if program is not None:
            found[program] = Entitlement(program, self.svid_ttl_seconds)
        hints: set[str] = set()
        for one in self.registrations:
            if meets(caller, one.selectors) and one.identity not in found:
                hint = "" if one.hint in hints else one.hint
                hints.add(one.hint)
                found[one.identity] = Entitlement(one.identity, one.svid_ttl_seconds, one.jwt_audiences, hint)
        return tuple(found.values())


def meets(caller: Caller, selectors: Selectors) -> bool:
    """Whether all that is asked is true, and something is asked."""
    asked = (
        (selectors.uid, caller.uid),
        (selectors.gid, caller.gid),
        (selectors.path, caller.path),
        (selectors.sha256, caller.sha256),
        (selectors.systemd_unit, caller.systemd_unit),
    )
    relevant = [(wanted, known) for wanted, known in asked if wanted is not None]
    return bool(relevant) and all(wanted == known for wanted, known in relevant)
