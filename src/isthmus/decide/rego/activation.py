"""Which bundle is in force, and when its source is to be asked again. Pure: the time is an argument."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from isthmus.decide.rego.signature import Verifier
from isthmus.model.rego_bundle import ActiveBundle, BundleSource

FIRST_RETRY: Final = timedelta(seconds=1)
WATCH: Final = timedelta(milliseconds=500)
"""How often a file is looked at."""
NOT_YET: Final = "not fetched yet"


@dataclass(frozen=True, slots=True)
class Wish:
    """What one RegoPolicy wants: ``policy`` is its ``namespace/name``, ``path`` the rule that will be asked for.

    ``verifier`` None: signatures are not looked at. ``problem``: why nothing can be fetched or verified (a Secret that
    is not there); empty: it can be tried.
    """

    policy: str
    source: BundleSource
    path: str
    verifier: Verifier | None = None
    token: str | None = field(default=None, repr=False)
    problem: str = ""

    @property
    def key(self) -> str:
        """Of what is kept of it: another source begins anew. Other keys need not: what is kept is verified anew."""
        return sha256(json.dumps([self.policy, self.source.location]).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Activation:
    """What is known of one policy's bundle.

    A bundle that was good once stays in force for as long as nothing better comes: a server that is down, or publishes
    rubbish, must neither open nor close what the policy is about.
    """

    due: datetime
    active: ActiveBundle | None = None
    tag: str | None = None
    """Of what was fetched last, good or bad: the same is not fetched again."""
    since: datetime | None = None
    """When ``active`` came into force; None: in an earlier run."""
    error: str | None = NOT_YET
    """Why the latest look brought nothing new that could be taken; None: ``active`` is what the source has."""
    refused: bool = False
    """Whether ``error`` is about what the source has, not about reaching it."""
    failures: int = 0

    def activated(
        self, found: ActiveBundle, tag: str | None, now: datetime, source: BundleSource, jitter: float
    ) -> Activation:
        """``jitter``: from 0 to 1."""
        since = now if self.active is None or found.digest != self.active.digest else self.since
        return Activation(now + pace(source, jitter), found, tag, since, None)

    def unchanged(self, now: datetime, source: BundleSource, jitter: float) -> Activation:
        """The source still has what it had. What was refused stays refused."""
        error, refused = (self.error, True) if self.refused else (None, False)
        return replace(self, due=now + pace(source, jitter), error=error, refused=refused, failures=0)

    def rejected(self, error: str, tag: str | None, now: datetime, source: BundleSource, jitter: float) -> Activation:
        """What the source has is not taken."""
        return replace(self, due=now + pace(source, jitter), tag=tag, error=error, refused=True, failures=0)

    def failed(self, error: str, now: datetime, source: BundleSource, jitter: float) -> Activation:
        """The source could not be asked. What it had last is not known to be refused any more, unless it was."""
        longest = WATCH if source.is_file else source.longest
        back_off = min(FIRST_RETRY * 2 ** min(self.failures, 32), longest) * (0.5 + jitter / 2)
        known = self.error if self.refused and self.error is not None else error
        return replace(self, due=now + back_off, error=known, failures=self.failures + 1)

    def wait(self, now: datetime, source: BundleSource) -> timedelta:
        """How long until it is due. A clock that was set back must not stop the fetching: then it is due now."""
        left = self.due - now
        return timedelta() if left > max(source.longest, WATCH) else max(left, timedelta())


def pace(source: BundleSource, jitter: float) -> timedelta:
    """Until a source that answers is asked again."""
    return WATCH if source.is_file else source.shortest + (source.longest - source.shortest) * jitter
