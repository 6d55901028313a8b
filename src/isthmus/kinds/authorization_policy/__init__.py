"""AuthorizationPolicy: who may do what.

CUSTOM denies first, then DENY; without ALLOW policies the rest passes, with them only what one of them allows.
Source: istio.io/api security/v1beta1/authorization_policy.proto.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.config.resource import Resource
from isthmus.diag import Code, Origin, Report, Severity
from isthmus.kinds.authorization_policy.attribute import SOURCE_PRINCIPAL, SOURCE_TRUST_DOMAIN
from isthmus.kinds.authorization_policy.rule import rule_predicate
from isthmus.kinds.authorization_policy.spec import Clause, Spec, spec
from isthmus.kinds.authorization_policy.value import Context, foreign_trust_domain
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.remember import remembered
from isthmus.kinds.shape.selector import Attachable, scope, warn_unattached
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Action, AuthorizationPolicy, Rule

NEVER_TRIGGERED = Code(
    "ISM2231",
    Severity.WARNING,
    "Policy that is never triggered",
    "{action} without a rule is never triggered; for every request write rules: [{{}}]",
    what="A DENY, AUDIT or CUSTOM policy has no rule.",
    why="A rule is what it acts on: it denies, records or asks nothing. (ALLOW without rules denies everything.)",
    example="kind: AuthorizationPolicy\nspec: {action: DENY, rules: []}",
    fix="Write the rules; an empty rule {} is every request.",
)
FOREIGN_TRUST_DOMAIN = Code(
    "ISM2234",
    Severity.WARNING,
    "Principal of another trust domain",
    '"{value}": the mesh\'s trust domain is "{own}", a peer of "{other}" is never let in',
    what="A value names a trust domain that is neither the mesh's, nor an alias of it, nor federated with it.",
    why="Handshakes are refused to every other trust domain, so the value matches nobody.",
    example="principals: [other.example/ns/shop/sa/orders]",
    fix='Write the mesh\'s own trust domain, or "cluster.local/ns/…/sa/…", which stands for it; or federate with the '
    "other by a FederatedTrustDomain.",
)
UNKNOWN_PROVIDER = Code(
    "ISM2235",
    Severity.ERROR,
    "Unknown ext_authz provider",
    'no ext_authz provider "{name}" in the mesh configuration{hint}: what the rules match is denied',
    what="A CUSTOM policy names a provider that extensionProviders of the mesh configuration does not have.",
    why="Nobody can be asked, so the requests that the policy speaks of are denied.",
    example="spec:\n  action: CUSTOM\n  provider: {name: opa}",
    fix="Declare the provider in the ConfigMap istio, or correct the name.",
    stops=False,
)
NO_DRY_RUN = Code(
    "ISM2236",
    Severity.ERROR,
    "Dry run that is not possible",
    "{problem}: the policy is enforced",
    what="The annotation istio.io/dry-run stands where it has no meaning, or has a value that is not true or false.",
    why="Dry runs exist for ALLOW and DENY. Istio would enforce a part of such a CUSTOM policy without a word.",
    example='metadata:\n  annotations: {istio.io/dry-run: "true"}\nspec: {action: CUSTOM}',
    fix="Take the annotation out, or use ALLOW or DENY.",
)

NO_PLACE = Code(
    "ISM2380",
    Severity.ERROR,
    "Custom after authentication, where that means nothing",
    "the annotation isthmus.dev/custom-after-authentication has no effect: {problem}",
    what="The annotation that moves a CUSTOM policy behind the verification of tokens stands on another policy, or has "
    "a value that is not true or false.",
    why="The policy stays in its usual place, which may not be what was meant.",
    example='metadata:\n  annotations: {isthmus.dev/custom-after-authentication: "yes"}\nspec: {action: CUSTOM}',
    fix='Write "true" on a policy with the action CUSTOM, or take the annotation out.',
    stops=False,
)

AFTER = "isthmus.dev/custom-after-authentication"
DRY_RUN = "istio.io/dry-run"
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
"""Go's strconv.ParseBool, with which Istio reads the annotation."""


def apply(resources: Sequence[Resource[Spec]], mesh: Mesh, report: Report) -> Mesh:
    """Add the policies to the Mesh, in order of loading: all that select a workload hold, none overrides another."""
    attachable = Attachable.of(mesh)
    policies: list[AuthorizationPolicy] = []
    for resource in resources:
        written = resource.spec
        policy = _in_place(_policy(resource, mesh, report), resource, mesh, report)
        policies.append(policy)
        warn_unattached(resource, policy.scope, written.selector, attachable, report)
        _warn_of_foreign(resource, _context(resource, mesh), report)
        if not policy.rules and policy.action is not Action.ALLOW:
            report.add(NEVER_TRIGGERED, written.at.at("rules"), action=policy.action.value)
        if policy.provider is not None and mesh.settings.provider(policy.provider) is None:
            close = difflib.get_close_matches(policy.provider, [known.name for known in mesh.settings.ext_authz], 1)
            hint = f' (did you mean "{close[0]}"?)' if close else ""
            report.add(UNKNOWN_PROVIDER, written.at.at("provider", "name"), name=policy.provider, hint=hint)
    return replace(mesh, policies=replace(mesh.policies, authorization=tuple(policies)))


@remembered
def _policy(resource: Resource[Spec], mesh: Mesh, report: Report) -> AuthorizationPolicy:
    written = resource.spec
    context = _context(resource, mesh)
    return AuthorizationPolicy(
        name=resource.name,
        namespace=resource.namespace,
        scope=scope(resource.namespace, written.selector, mesh.settings.root_namespace),
        action=written.action,
        rules=tuple(
            Rule(rule_predicate(rule, context), Origin(resource.ref, rule.at.source)) for rule in written.rules or ()
        ),
        origin=resource.origin,
        dry_run=_dry_run(resource, report),
        provider=written.provider.name if written.provider is not None else None,
        after_authentication=_after(resource, report),
    )


def _in_place(policy: AuthorizationPolicy, resource: Resource[Spec], mesh: Mesh, report: Report) -> AuthorizationPolicy:
    """Not behind access control, where its provider may lead the request to a route that this has not looked at."""
    provider = mesh.settings.provider(policy.provider or "") if policy.after_authentication else None
    if provider is None or not provider.clear_route_cache:
        return policy
    problem = "its provider has routes chosen anew (clearRouteCache), and access control has looked at the first"
    report.add(NO_PLACE, resource.root.at("metadata", "annotations", AFTER), problem=problem)
    return replace(policy, after_authentication=False)


def _context(resource: Resource[Spec], mesh: Mesh) -> Context:
    settings = mesh.settings
    federated = frozenset(one.trust_domain for one in mesh.federated)
    return Context(settings.trust_domain, resource.namespace, settings.trust_domain_aliases, federated)


def _dry_run(resource: Resource[Spec], report: Report) -> bool:
    written = resource.annotations.get(DRY_RUN)
    if written is None:
        return False
    wanted, action = _BOOLEANS.get(written), resource.spec.action
    if wanted is None:
        problem = f'the annotation {DRY_RUN} is "true" or "false", not "{written}"'
    elif wanted and action not in (Action.ALLOW, Action.DENY):
        problem = f"{action.value} has no dry run"
    else:
        return wanted
    report.add(NO_DRY_RUN, resource.root.at("metadata", "annotations", DRY_RUN), problem=problem)
    return False


def _after(resource: Resource[Spec], report: Report) -> bool:
    written = resource.annotations.get(AFTER)
    if written is None:
        return False
    if written in ("true", "false") and resource.spec.action is Action.CUSTOM:
        return written == "true"
    custom = resource.spec.action is Action.CUSTOM
    problem = f'it is "true" or "false", not "{written}"' if custom else "only CUSTOM asks anybody"
    report.add(NO_PLACE, resource.root.at("metadata", "annotations", AFTER), problem=problem)
    return False


def _warn_of_foreign(resource: Resource[Spec], context: Context, report: Report) -> None:
    known = (*context.trust_domains, *context.federated)
    for clause in _clauses(resource.spec):
        for value in (*clause.values, *clause.not_values):
            if clause.attribute is SOURCE_PRINCIPAL:
                other = foreign_trust_domain(value.text, context)
            else:
                other = None if "*" in value.text or value.text in known else value.text
            if other is not None:
                own = context.trust_domain
                report.add(FOREIGN_TRUST_DOMAIN, value.at, value=value.text, own=own, other=other)


def _clauses(written: Spec) -> Iterator[Clause]:
    """Every clause that names trust domains."""
    for rule in written.rules or ():
        for clause in (*(each for source in rule.sources for each in source.clauses), *rule.conditions):
            if clause.attribute in (SOURCE_PRINCIPAL, SOURCE_TRUST_DOMAIN):
                yield clause


KIND: Kind[Spec] = Kind(
    name="AuthorizationPolicy",
    api_versions=("security.istio.io/v1", "security.istio.io/v1beta1"),
    spec=spec,
    apply=apply,
    about="Who may do what: ALLOW, DENY, AUDIT, or CUSTOM, which asks an external authorizer.",
    security=True,
)
