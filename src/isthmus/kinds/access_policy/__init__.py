"""AccessPolicy: who may do what, by token, consumer and workload in one rule, with conditions in CEL.

A list of what is allowed, beside AuthorizationPolicy: a request must pass both. Ours (``isthmus.dev``): Istio has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isthmus.cel.never import contradiction
from isthmus.cel.unlike import unlike
from isthmus.config.resource import Resource
from isthmus.diag import Code, Origin, Place, Report, Severity
from isthmus.kinds.access_policy.rule import compiled
from isthmus.kinds.access_policy.spec import RuleSpec, Spec, spec
from isthmus.kinds.authorization_policy import FOREIGN_TRUST_DOMAIN
from isthmus.kinds.authorization_policy.value import Context, foreign_trust_domain
from isthmus.kinds.shape.attach import attachment
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.remember import remembered
from isthmus.model.access import AccessPolicy, AccessRule
from isthmus.model.attachment import Attachment
from isthmus.model.mesh import Mesh
from isthmus.model.predicate import TRUE

NEVER_TRUE = Code(
    "ISM2352",
    Severity.WARNING,
    "Rule that lets nobody in",
    "this condition is false of every request: {why}",
    what="The condition of a rule contradicts itself.",
    why="The rule never lets anybody in, whatever else it says.",
    example="when: \"claims.role == 'clerk' && claims.role == 'manager'\"",
    fix="Write || where either will do, or two rules.",
)
EVERYBODY = Code(
    "ISM2353",
    Severity.WARNING,
    "Rule that lets everybody in",
    "this rule asks for nothing: every request passes the policy",
    what="A rule of an AccessPolicy has no field that narrows it.",
    why="One such rule makes all others of the policy superfluous.",
    example="rules:\n  - name: everything",
    fix="Write who may do what; if everybody may do everything, take the policy out.",
)
NOBODY = Code(
    "ISM2354",
    Severity.WARNING,
    "Policy that lets nobody in",
    "a policy without rules refuses every request",
    what="An AccessPolicy has no rules.",
    why="It is a list of what is allowed, and the list is empty.",
    example="kind: AccessPolicy\nspec: {selector: {matchLabels: {app: orders}}}",
    fix="Write the rules, or keep it if nobody is to get in.",
)
SAME_NAME = Code(
    "ISM2355",
    Severity.WARNING,
    "Two rules of one name",
    'another rule of this policy is called "{name}"',
    what="Two rules of a policy have the same name.",
    why="Logs name the rule that let a request in; of these two nobody can tell which it was.",
    example="rules:\n  - {name: read, methods: [GET]}\n  - {name: read, methods: [HEAD]}",
    fix="Give each a name of its own, or none.",
)

NEVER_EQUAL = Code(
    "ISM2450",
    Severity.WARNING,
    "Comparison with what the value never is",
    '{variable} is never "{text}": it is {form}',
    what="A condition compares a variable with a text that no request has there.",
    why="An == is never true, and a != always: the rule lets in nobody, or others than it seems to.",
    example="when: consumer == 'acme'   # a consumer is named with its namespace: 'shop/acme'",
    fix="Write the value as the variable has it; the guide to access policies says how each looks.",
)


def apply(resources: Sequence[Resource[Spec]], mesh: Mesh, report: Report) -> Mesh:
    """Add the policies to the Mesh, in order of loading."""
    policies = tuple(_policy(resource, mesh, report) for resource in resources)
    return replace(mesh, policies=replace(mesh.policies, access=policies))


def _policy(resource: Resource[Spec], mesh: Mesh, report: Report) -> AccessPolicy:
    settings = mesh.settings
    federated = frozenset(one.trust_domain for one in mesh.federated)
    context = Context(settings.trust_domain, resource.namespace, settings.trust_domain_aliases, federated)
    rules = _rules(resource, context, report)
    attached: Attachment = attachment(resource, resource.spec, mesh, report)
    return AccessPolicy(resource.name, resource.namespace, attached, rules, resource.origin)


@remembered
def _rules(resource: Resource[Spec], context: Context, report: Report) -> tuple[AccessRule, ...]:
    """The dear part: conditions are compiled once, however often the Mesh is made."""
    if not resource.spec.rules:
        report.add(NOBODY, Place(resource.source, resource.ref))
    names: set[str] = set()
    found = []
    for number, written in enumerate(resource.spec.rules):
        if written.name is not None and written.name in names:
            report.add(SAME_NAME, written.at.at("name"), name=written.name)
        names.add(written.name or "")
        name = f"ns[{resource.namespace}]-policy[{resource.name}]-rule[{written.name or number}]"
        rule = compiled(written, name, context, Origin(resource.ref, written.at.source))
        _warn(written, rule, context, report)
        found.append(rule)
    return tuple(found)


def _warn(written: RuleSpec, rule: AccessRule, context: Context, report: Report) -> None:
    if written.when is not None:
        why = contradiction(written.when.checked.expr)
        if why is not None:
            report.add(NEVER_TRUE, written.when.at, why=why)
        for one in unlike(written.when.checked.expr):
            fault = written.when.checked.fault(one.at, "")
            place = written.when.at.inside(fault.line, fault.column)
            report.add(NEVER_EQUAL, place, variable=one.variable, text=one.text, form=one.form)
    elif not rule.checks and rule.operation == TRUE:
        report.add(EVERYBODY, written.at)
    for principal in written.principals:
        other = foreign_trust_domain(principal.text, context)
        if other is not None:
            report.add(FOREIGN_TRUST_DOMAIN, principal.at, value=principal.text, own=context.trust_domain, other=other)


KIND: Kind[Spec] = Kind(
    name="AccessPolicy",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=spec,
    apply=apply,
    about="Who may do what: by token, consumer and workload in one rule, with conditions in CEL.",
    security=True,
)
