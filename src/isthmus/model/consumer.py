"""Consumers: who a client is, whatever it proves itself with."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.diag import Origin

CLIENT = "envoy.filters.http.ext_authz"
"""The dynamic metadata in which a verified client is told: :data:`CLIENT_KEYS`.

Envoy's, not ours: an ext_authz filter writes into this one namespace, whatever its own name is, on a denial too, and
what several filters write is merged by key. So what external providers say of these keys is taken away before anybody
is verified, behind that they may write none at all (``filters/ext_authz.py``), and what other services of ours write
there has other keys, ``reason`` aside."""
CLIENT_KEYS = ("consumer", "consumer_namespace", "groups", "plan", "method", "claims", "reason")
"""``groups``: a list; ``method``: how the client was verified; ``claims``: of an introspected token; ``reason``: of a
refusal."""
ANSWERED_KEY = "answered"
"""True in the same metadata beside ``reason``: the service wrote a body of its own, which stays as it is."""
EXTERNAL = "isthmus.custom"
EXTERNAL_KEY = "external"
"""True in the dynamic metadata of :data:`EXTERNAL` while external providers are asked: what they say is no reason."""
CONSUMER_HEADER = "x-isthmus-consumer"
"""What tells the upstream who the client is, as ``namespace/name``; nobody else may say so."""

COMMON_NAME = "CN="
"""Before a Common Name among a consumer's certificates."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """Its credentials are in the store alone."""

    name: str
    namespace: str
    origin: Origin
    groups: tuple[str, ...] = ()
    plan: str | None = None
    certificates: tuple[str, ...] = ()
    """Subject alternative names (URI or DNS), or Common Names written ``CN=...``, of its client certificates."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"
