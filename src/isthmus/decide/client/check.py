"""The decision: which credential a request brings, whose it is, and whether the route takes it.

What a client shows of its own accord (a key, a token) counts before the certificate of its connection, and two such are
one too many: which of them was meant nobody can tell, and what stands behind might tell otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from isthmus.decide.client.api_key import AS_IT_CAME, CHALLENGE, Cleaned, Keys, check_key, find_keys
from isthmus.decide.client.certificate import consumer_of, owners_of
from isthmus.decide.client.outcome import Outcome, Refused, Verified
from isthmus.decide.client.question import Question
from isthmus.errors import CredentialsUnavailable
from isthmus.model.client_authentication import Accepted

ANONYMOUS = Verified("")
"""Who brings nothing where nothing is required."""
UNAVAILABLE = Refused("policy-service-unavailable", 503)
_AMBIGUOUS = Refused("credential-ambiguous", 400)
_UNKNOWN = Refused("consumer-unknown", 401)


@dataclass(frozen=True, slots=True)
class ConsumerFacts:
    """What a Consumer manifest says."""

    groups: tuple[str, ...] = ()
    plan: str | None = None
    certificates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """``outcome``, with what ``consumer`` is known for where one was verified, and the request as it goes on."""

    outcome: Outcome
    consumer: ConsumerFacts | None = None
    cleaned: Cleaned = AS_IT_CAME


class Tokens(Protocol):
    """What becomes of bearer tokens."""

    def brings(self, question: Question) -> bool:
        """Whether the request brings one of a kind that the route takes."""

    async def check(self, question: Question, now: datetime) -> Outcome | None:
        """None: it brings none."""


class Checker:
    """Knows the consumers of the manifests; whoever is none of them is refused, whatever he proves."""

    def __init__(self, keys: Keys, tokens: Tokens, consumers: Mapping[str, ConsumerFacts]) -> None:
        self.keys = keys
        self._tokens = tokens
        self.learn(consumers)

    def learn(self, consumers: Mapping[str, ConsumerFacts]) -> None:
        """These, and nobody else, from now on; by ``namespace/name``."""
        self._consumers = dict(consumers)
        self._owners = owners_of((key, one.certificates) for key, one in consumers.items())

    async def check(self, question: Question, now: datetime) -> Answer:
        """Raises nothing: what cannot be found out is refused.

        A token that Envoy verified, and that is none of the route's, was another route's method, before this one was
        chosen by its claims. What it says would stand beside whoever this is: nobody may bring it.
        """
        keys, cleaned = find_keys(question)
        if len(keys) > 1 or (keys and (question.token is not None or self._tokens.brings(question))):
            return Answer(_AMBIGUOUS)
        try:
            if keys:
                outcome: Outcome | None = await check_key(keys[0], self.keys, now)
            else:
                outcome = await self._tokens.check(question, now)
        except CredentialsUnavailable:
            return Answer(UNAVAILABLE)
        if outcome is None and question.token is not None:
            return Answer(Refused("credential-missing", 401, challenge(question.accepted)))
        return self._known(self._by_connection(question) if outcome is None else outcome, cleaned)

    def _by_connection(self, question: Question) -> Outcome:
        accepted = question.accepted
        found = (
            consumer_of(question.certificate, self._owners) if accepted.certificate and question.certificate else None
        )
        if found is not None:
            return found
        if not accepted.required:
            # A certificate that is no consumer's is as good as none: in the mesh every caller has one.
            return ANONYMOUS
        if accepted.certificate and question.certificate:
            return _UNKNOWN
        return Refused("credential-missing", 401, challenge(accepted))

    def _known(self, outcome: Outcome, cleaned: Cleaned) -> Answer:
        if isinstance(outcome, Refused):
            return Answer(outcome)
        if outcome.consumer is None:
            return Answer(outcome, cleaned=cleaned)
        facts = self._consumers.get(outcome.consumer)
        return Answer(_UNKNOWN) if facts is None else Answer(outcome, facts, cleaned)


def challenge(accepted: Accepted) -> str | None:
    """What ``www-authenticate`` says to somebody who brought nothing."""
    tokens = bool(accepted.issuers or accepted.introspection)
    schemes = [*(["Bearer"] if tokens else []), *([CHALLENGE] if accepted.api_key is not None else [])]
    return ", ".join(schemes) or None
