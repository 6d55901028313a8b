"""Telemetry: spans, access logs and metrics, for the mesh, a namespace or a workload.

Source: istio.io/api telemetry/v1alpha1/telemetry.proto; precedence: istio pilot/pkg/model/telemetry.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Place, Ref, Report, Severity
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.selector import Attachable, warn_unattached
from isthmus.kinds.shape.telemetry_provider import report_unknown_provider
from isthmus.kinds.shape.telemetry_receiver import report_receivers
from isthmus.kinds.shape.telemetry_spec import SPEC, Spec, logging_rules, metrics_rules, tracing_rules
from isthmus.model.mesh import Mesh
from isthmus.model.selector import Scope
from isthmus.model.settings import Settings
from isthmus.model.telemetry import Telemetry

SEVERAL_PROVIDERS = Code(
    "ISM2191",
    Severity.WARNING,
    "More than one tracing provider",
    'spans go to "{first}" only: a proxy has one provider of spans',
    what="An entry of tracing, or defaultProviders.tracing, names several providers.",
    why="Istio and Envoy take one; the others get nothing.",
    example="tracing:\n  - providers: [{name: otel}, {name: backup}]",
    fix="Name one provider, and let an OpenTelemetry collector pass the spans on.",
)
SAME_WORKLOAD = Code(
    "IST0159",
    Severity.WARNING,
    "Telemetries that select the same workload",
    "{where}{winner} was loaded before this one and decides alone",
    what="Two Telemetries with a selector speak of one workload; the one that is loaded first holds.",
    why="What the later one says has no effect there.",
    example="(two Telemetries whose selectors both match app: orders)",
    fix="Make one of the two, or select apart.",
)
SAME_NAMESPACE = Code(
    "IST0160",
    Severity.WARNING,
    "Telemetries without a selector in one namespace",
    "{winner} has no selector either, was loaded before this one and decides alone",
    what="A namespace has more than one Telemetry without a selector; the one that is loaded first holds.",
    why="What the later one says has no effect.",
    example="(two Telemetries without a selector in one namespace)",
    fix="Make one of the two.",
)


def apply(resources: Sequence[Resource[Spec]], mesh: Mesh, report: Report) -> Mesh:
    """Add the resources to the Mesh, in order of loading; what holds for a proxy is :mod:`isthmus.model.telemetry`.

    The receivers of the mesh configuration are looked at here, too: it is applied before there are services.
    """
    attachable = Attachable.of(mesh)
    taken = _Taken()
    found: list[Telemetry] = []
    for resource in resources:
        telemetry = _telemetry(resource)
        _check_providers(resource, mesh.settings, report)
        wanted = replace(telemetry.scope, namespace=_namespace(telemetry, mesh.settings))
        warn_unattached(resource, wanted, resource.spec.selector, attachable, report)
        taken.take(telemetry, attachable, report)
        found.append(telemetry)
    report_receivers(mesh, report)
    return replace(mesh, telemetry=tuple(found))


def _namespace(telemetry: Telemetry, settings: Settings) -> str | None:
    """A selector of the root namespace's speaks of that namespace alone, unlike a policy's."""
    everywhere = telemetry.namespace == settings.root_namespace and telemetry.scope.whole_namespace
    return None if everywhere else telemetry.namespace


def _telemetry(resource: Resource[Spec]) -> Telemetry:
    spec = resource.spec
    labels = spec.selector.match_labels if spec.selector is not None else {}
    return Telemetry(
        resource.name,
        resource.namespace,
        Scope(resource.namespace, tuple(sorted(labels.items()))),
        resource.origin,
        tracing_rules(spec),
        logging_rules(spec),
        metrics_rules(spec),
    )


def _check_providers(resource: Resource[Spec], settings: Settings, report: Report) -> None:
    for rule in resource.spec.tracing:
        if len(rule.providers) > 1:
            report.add(SEVERAL_PROVIDERS, rule.providers[1].at, first=rule.providers[0].name)
    for what, at, name in _named(resource.spec):
        report_unknown_provider(what, name, at, settings, report)


def _named(spec: Spec) -> Iterator[tuple[str, Node, str]]:
    for what, rules in (("spans", spec.tracing), ("logs", spec.access_logging), ("metrics", spec.metrics)):
        for rule in rules:
            yield from ((what, provider.at.at("name"), provider.name) for provider in rule.providers)


@dataclass(slots=True)
class _Taken:
    """The first of each namespace without a selector, and of each label set of a workload among those with one."""

    namespaces: dict[str, Ref] = field(default_factory=dict)
    workloads: dict[tuple[str, frozenset[tuple[str, str]]], Ref] = field(default_factory=dict)

    def take(self, telemetry: Telemetry, attachable: Attachable, report: Report) -> None:
        """Note ``telemetry``; warn where an older one has its place."""
        ref = telemetry.origin.ref
        place = Place(telemetry.origin.source, ref)
        if telemetry.scope.whole_namespace:
            older = self.namespaces.setdefault(telemetry.namespace, ref)
            if older != ref:
                report.add(SAME_NAMESPACE, place, winner=older)
            return
        for target in attachable.within(telemetry.scope):
            older = self.workloads.setdefault(target, ref)
            if older != ref:
                shown = ", ".join(f"{key}={value}" for key, value in sorted(target[1]))
                report.add(SAME_WORKLOAD, place, where=f"for the workload with the labels {shown}: ", winner=older)


KIND: Kind[Spec] = Kind(
    name="Telemetry",
    api_versions=("telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"),
    spec=SPEC,
    apply=apply,
    about="Which spans, access logs and metrics are made, and where they are sent.",
)
