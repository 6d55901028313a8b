"""A Service whose selector matches no workload: whoever calls it gets 503."""

from __future__ import annotations

from isthmus.analyze.check import Check
from isthmus.diag import Code, Place, Report, Severity
from isthmus.model.mesh import Mesh

UNMATCHED_SERVICE = Code(
    "ISM5011",
    Severity.WARNING,
    "A Service without workloads",
    "no workload of namespace {namespace} has the labels {labels}: the service answers 503",
    what="The Service's selector matches no WorkloadEntry and no LocalWorkload of its namespace.",
    why="Callers get 503, which looks like a program that is down.",
    example="kind: Service\nspec:\n  selector: {app: ordrs}",
    fix="Correct the selector, or add the workload.",
)


def run(mesh: Mesh, report: Report) -> None:
    for service in mesh.services.values():
        if service.selector and not mesh.workloads_of(service):
            labels = ", ".join(f"{key}={value}" for key, value in sorted(service.selector.items()))
            place = Place(service.origin.source, service.origin.ref, "spec.selector")
            report.add(UNMATCHED_SERVICE, place, namespace=service.namespace, labels=labels)


CHECK = Check("unmatched-service", (UNMATCHED_SERVICE,), run)
