from __future__ import annotations

import pytest
from traffic_manifest import compiled

from isthmus.model.workload import Workload


def text(**annotations: str) -> str:
    """Annotations begin at line 7."""
    lines = "\n".join(f'    traffic.sidecar.istio.io/{name}: "{value}"' for name, value in annotations.items())
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: LocalWorkload\nmetadata:\n  name: web\n  namespace: shop\n"
        f"  annotations:\n{lines}\nspec: {{}}\n"
    )


def only(done: object) -> Workload:
    (workload,) = done.mesh.workloads  # type: ignore[attr-defined]
    assert isinstance(workload, Workload)
    return workload


def test_ranges_are_left_to_the_program_and_ports_opened() -> None:
    done = compiled(
        text(
            excludeOutboundIPRanges="10.1.2.3/8, 192.0.2.1,2001:db8::/32,,192.0.2.2/32", excludeOutboundPorts="5432, 80"
        )
    )
    assert done.found == []
    workload = only(done)
    assert workload.no_proxy == ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "192.0.2.2")
    assert workload.direct_ports == (5432, 80)


def test_nothing_is_excluded_by_default() -> None:
    done = compiled(text(excludeOutboundPorts=""))
    assert (only(done).no_proxy, only(done).direct_ports) == ((), ())


@pytest.mark.parametrize(
    "annotations",
    [{"excludeOutboundIPRanges": "example.com"}, {"excludeOutboundPorts": "0"}, {"excludeOutboundPorts": "http"}],
)
def test_what_cannot_be_read(annotations: dict[str, str]) -> None:
    done = compiled(text(**annotations))
    (found,) = done.found
    assert found.startswith("7:")
    assert found.endswith("error ISM1106")


@pytest.mark.parametrize("name", ["includeOutboundIPRanges", "excludeInboundPorts", "kubevirtInterfaces"])
def test_annotations_of_captured_traffic(name: str) -> None:
    """ISM2165."""
    (found,) = compiled(text(**{name: "*"})).found
    assert found.endswith("warning ISM2165")
