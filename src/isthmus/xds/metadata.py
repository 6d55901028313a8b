"""What clusters and endpoints say of the services and workloads that they lead to, for whoever observes requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.envoy_api.packages import core_v3
from isthmus.model.cluster import Protocol, Service, ServicePort
from isthmus.model.workload import Workload

METADATA = "istio"
"""The name that it all stands under, as in Istio."""
_PROTOCOLS = {Protocol.HTTP: "http", Protocol.HTTP2: "http", Protocol.GRPC: "grpc"}


def service_metadata(service: Service, port: ServicePort) -> Any:
    """Of a cluster: keys ``host``, ``name``, ``namespace`` and ``protocol`` (``http``, ``grpc`` or ``tcp``)."""
    within = f".{service.namespace}.svc." in service.host
    return build_metadata(
        {
            "host": service.host,
            "name": service.host.partition(".")[0] if within else service.host,
            "namespace": service.namespace,
            "protocol": _PROTOCOLS.get(port.protocol, "tcp"),
        }
    )


def workload_metadata(workload: Workload) -> Mapping[str, str]:
    """Of an endpoint: keys ``workload``, ``namespace`` and, where it has these labels, ``app`` and ``version``."""
    labels = {key: workload.labels[key] for key in ("app", "version") if key in workload.labels}
    return {"workload": workload.name, "namespace": workload.namespace, **labels}


def build_metadata(about: Mapping[str, str]) -> Any:
    """An envoy.config.core.v3.Metadata."""
    built = core_v3.Metadata()
    fields = built.filter_metadata[METADATA].fields
    # Struct.update would take four times as long, and there is one of these for every endpoint.
    for key, value in about.items():
        fields[key].string_value = value
    return built
