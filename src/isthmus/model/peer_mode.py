"""Which mutual TLS mode a workload's port has, and which policy says so.

Istio: pilot/pkg/security/authn/policy_applier.go, ComposePeerAuthentication.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from isthmus.diag import Origin
from isthmus.model.policy import MutualTls, PeerAuthentication
from isthmus.model.selector import labels_match


def peer_mode(
    policies: Sequence[PeerAuthentication],
    root_namespace: str,
    namespace: str,
    labels: Mapping[str, str],
    port: int,
) -> tuple[MutualTls, Origin | None]:
    """The mode of ``port`` (the workload's, not the service's) and the policy that decides it; None: the default.

    Workload before namespace before mesh, each level the first of ``policies`` (the oldest); a mode that is not set
    is the wider level's, a port's that of its workload policy. A policy of the root namespace with a selector holds
    nowhere. Default: PERMISSIVE.
    """

    def first(level: Callable[[PeerAuthentication], bool]) -> PeerAuthentication | None:
        return next((policy for policy in policies if level(policy)), None)

    workload = (
        None
        if namespace == root_namespace
        else first(
            lambda policy: (
                policy.namespace == namespace
                and not policy.scope.whole_namespace
                and labels_match(dict(policy.scope.labels), labels)
            )
        )
    )
    if workload is not None:
        port_mode = workload.port_modes.get(port)
        if port_mode is not None:
            return port_mode, workload.origin
    of_namespace = first(lambda policy: policy.namespace == namespace and policy.scope.whole_namespace)
    of_mesh = first(lambda policy: policy.namespace == root_namespace and policy.scope.whole_namespace)
    for policy in (workload, of_namespace, of_mesh):
        if policy is not None and policy.mode is not None:
            return policy.mode, policy.origin
    return MutualTls.PERMISSIVE, None
