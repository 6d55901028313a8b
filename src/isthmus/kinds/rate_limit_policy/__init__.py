"""RateLimitPolicy (ours): how often something may be asked, how much in a day or a month, how many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.config.resource import Resource
from isthmus.diag import Code, Origin, Report, Severity
from isthmus.kinds.rate_limit_policy.spec import SPEC, LimitSpec, RateLimitPolicySpec
from isthmus.kinds.shape.attach import attachment
from isthmus.kinds.shape.kind import Kind
from isthmus.model.limit import Limit, RateLimitPolicy
from isthmus.model.mesh import Mesh

STORE_KEY = "url"
"""The key of the Secret that holds the Redis URL."""

NO_STORE = Code(
    "ISM2400",
    Severity.ERROR,
    "No URL of the Redis that is to count",
    'the Secret "{key}" {problem}: what its limits are about is {instead}',
    what="A RateLimitPolicy names a Secret that is not there, or that has no key url.",
    why="Nobody can count then, and no other store is put in its place: it would count anew.",
    example="store: {redis: {secretName: limits-redis}}   # no such Secret in this namespace",
    fix="Make the Secret, with the URL (redis://, rediss:// or unix://) under the key url.",
    stops=False,
)
STORE_UNUSED = Code(
    "ISM2401",
    Severity.WARNING,
    "A store that nothing is counted in",
    "no limit of the policy is GLOBAL: the store has no effect",
    what="A RateLimitPolicy names a Redis, and all of its limits are counted by each proxy alone.",
    why="It looks as if the gateways shared a limit that each of them has for itself.",
    example="store: {redis: {secretName: limits-redis}}\nlimits: [{name: all, requests: 100, per: 1m}]",
    fix="Give the limits scope: GLOBAL, or take the store out.",
)


def apply(resources: Sequence[Resource[RateLimitPolicySpec]], mesh: Mesh, report: Report) -> Mesh:
    if not resources:
        return mesh
    policies = tuple(_policy(resource, mesh, report) for resource in resources)
    return replace(mesh, policies=replace(mesh.policies, limits=policies))


def _policy(resource: Resource[RateLimitPolicySpec], mesh: Mesh, report: Report) -> RateLimitPolicy:
    written = resource.spec
    limits = tuple(_limits(resource, written.limits))
    store = None
    if written.store is not None:
        store = f"{resource.namespace}/{written.store.redis.secret_name}"
        _look_for(store, written, limits, mesh, report)
    return RateLimitPolicy(
        name=resource.name,
        namespace=resource.namespace,
        attachment=attachment(resource, written, mesh, report),
        limits=(*limits, *_limits(resource, written.concurrency)),
        origin=resource.origin,
        headers=written.headers,
        store=store,
    )


def _limits(resource: Resource[RateLimitPolicySpec], written: Sequence[LimitSpec]) -> Iterator[Limit]:
    for one in written:
        yield replace(one.limit, origin=Origin(resource.ref, one.at.source))


def _look_for(store: str, written: RateLimitPolicySpec, limits: tuple[Limit, ...], mesh: Mesh, report: Report) -> None:
    assert written.store is not None
    at = written.store.redis.at.at("secretName")
    counted = [limit for limit in limits if limit.is_global]
    if not counted:
        report.add(STORE_UNUSED, written.store.at)
    secret = mesh.secrets.get(store)
    if secret is None or STORE_KEY not in secret.keys:
        problem = "is not there" if secret is None else f'has no key "{STORE_KEY}"'
        instead = "let through" if all(limit.fail_open for limit in counted) else "refused"
        report.add(NO_STORE, at, key=store, problem=problem, instead=instead)


KIND: Kind[RateLimitPolicySpec] = Kind(
    name="RateLimitPolicy",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="How often clients may ask, by address, consumer, claim, header or route; quotas; how many requests at once.",
)
