"""Which proxies a policy or a Gateway speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


def labels_match(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` has every pair of ``wanted``."""
    return all(labels.get(key) == value for key, value in wanted.items())


@dataclass(frozen=True, slots=True)
class Scope:
    """A namespace (None: every namespace, for policies of the root namespace) and the labels asked for."""

    namespace: str | None
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def whole_namespace(self) -> bool:
        return not self.labels

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        return self.namespace in (None, namespace) and labels_match(dict(self.labels), labels)
