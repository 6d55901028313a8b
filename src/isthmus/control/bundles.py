"""Which bundles the RegoPolicies want, and which of them decide. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from isthmus.decide.rego.activation import Wish
from isthmus.decide.rego.keeper import BundleStatus
from isthmus.decide.rego.signature import Key, Verifier, readable
from isthmus.model.mesh import Mesh
from isthmus.model.rego import RegoPolicy
from isthmus.model.rego_bundle import SIGNING_KEYS, TOKEN_KEYS, ActiveBundle, BundleKey, BundleSource

SecretValue = Callable[[str, tuple[str, ...]], bytes | None]
"""The first of some keys that the Secret ``namespace/name`` has."""
Statuses = Mapping[str, BundleStatus]
"""By policy, ``namespace/name``."""


def bundle_policies(mesh: Mesh) -> Iterator[tuple[RegoPolicy, BundleSource]]:
    for policy in mesh.policies.rego:
        if isinstance(policy, RegoPolicy) and policy.bundle is not None:
            yield policy, policy.bundle


def wishes(mesh: Mesh, value: SecretValue) -> frozenset[Wish]:
    """What is to be fetched, one of each policy."""
    return frozenset(_wish(policy, source, value) for policy, source in bundle_policies(mesh))


def _wish(policy: RegoPolicy, source: BundleSource, value: SecretValue) -> Wish:
    token, problem = None, ""
    if source.credential is not None:
        token = bearer_token(value, source.credential)
        problem = "" if token is not None else f"the Secret {source.credential} has no token"
    verifier = None
    if source.verification is not None:
        keys = []
        for declared in source.verification.keys:
            key = _key(declared, value)
            problem = problem or (_missing(declared) if key is None else readable(key) or "")
            keys += [key] if key is not None else []
        verifier = Verifier(tuple(keys), source.verification.key_id, source.verification.scope)
    return Wish(policy.key, source, policy.path, verifier, token, problem)


def bearer_token(value: SecretValue, secret: str) -> str | None:
    """None: the Secret has none, or one that no header can carry."""
    found = value(secret, TOKEN_KEYS)
    token = found.decode("latin-1").strip() if found is not None else ""
    return token if token and token.isascii() and token.isprintable() else None


def _key(declared: BundleKey, value: SecretValue) -> Key | None:
    """None: its secret is not there."""
    material = declared.public_key.encode() if declared.public_key is not None else None
    if declared.secret is not None:
        material = value(declared.secret, SIGNING_KEYS)
    return Key(declared.id, declared.algorithm, material, declared.scope) if material else None


def _missing(declared: BundleKey) -> str:
    return f'the Secret {declared.secret} has no "{SIGNING_KEYS[0]}", by which bundles are to be verified'


def active_bundles(statuses: Statuses) -> dict[str, ActiveBundle]:
    """By policy; without those that have none."""
    return {policy: status.active for policy, status in statuses.items() if status.active is not None}


def bundle_gauges(statuses: Statuses) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """For the control plane's metrics."""
    return {
        "isthmus_rego_bundle_active": {(name,): float(one.active is not None) for name, one in statuses.items()},
        "isthmus_rego_bundle_failing": {(name,): float(one.error is not None) for name, one in statuses.items()},
    }
