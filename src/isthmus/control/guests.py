"""Workloads of ``isthmus run``: LocalWorkloads without a file, for as long as somebody holds them.

They are written down where the next life of the control plane finds them: a command goes on while that is started
again, and so must its sidecar.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from contextlib import suppress
from hashlib import sha256

from isthmus.config.documents import read
from isthmus.config.parse import parse
from isthmus.config.resource import Document
from isthmus.diag import Ref, Report
from isthmus.errors import Refused, StateUnusable
from isthmus.kinds.local_workload import RUN_SOURCE
from isthmus.kinds.shape.service_account import service_account_problem
from isthmus.model.workload import Network
from isthmus.state import StateDir

_PREFIX = "run-"
_FILE = "guests"
"""One manifest a line. Not .json, which would count as an Envoy's bootstrap there."""


def is_guest(ref: Ref) -> bool:
    """Whether a resource is one that ``isthmus run`` added."""
    return ref.kind == "LocalWorkload" and ref.name.startswith(_PREFIX)


class Guests:
    """The workloads that exist now, as documents that compile like any other."""

    def __init__(self, kept: StateDir | None = None) -> None:
        """``kept``: where they are written, and those of an earlier life are; each of them waits to be held again."""
        self._kept = kept
        self._documents: dict[tuple[str, str], Document] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self.programs: dict[tuple[str, str], int] = {}
        """The processes that hold them, where they said so."""
        if kept is not None:
            with suppress(StateUnusable):
                for text in (kept.read(_FILE) or b"").decode().splitlines():
                    self._put(text)

    @property
    def documents(self) -> tuple[Document, ...]:
        return tuple(self._documents.values())

    def add(self, namespace: str, service_account: str, labels: dict[str, str], network: str = "Host") -> str:
        """A new workload; answers its name. Raises Refused for a namespace or label that is none."""
        problem = service_account_problem(service_account)
        if problem is not None:
            raise Refused(problem)
        if network not in (known := [each.value for each in Network]):
            raise Refused(f'"{network}" is not one of {", ".join(known)}')
        name = f"{_PREFIX}{secrets.token_hex(4)}"
        manifest = {
            "apiVersion": "isthmus.dev/v1alpha1",
            "kind": "LocalWorkload",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"serviceAccount": service_account, "labels": labels, "network": network},
        }
        self._put(json.dumps(manifest))
        self._held[namespace, name] = 1
        self._write()
        return name

    def hold(self, namespace: str, name: str) -> None:
        """Hold one that is there, once more. Raises Refused: it is not."""
        if (namespace, name) not in self._documents:
            raise Refused(f'there is no "{name}" in namespace "{namespace}" any more: run the command again')
        self._held[namespace, name] += 1

    def remove(self, namespace: str, name: str) -> None:
        """Let go of it: the last one who does so ends it."""
        self._held[namespace, name] -= 1
        if self._held[namespace, name] <= 0:
            self._drop((namespace, name))

    def remove_unheld(self) -> None:
        """End those of an earlier life whom nobody holds again."""
        for key in [key for key in self._documents if not self._held[key]]:
            self._drop(key)

    def _put(self, text: str) -> None:
        report = Report()
        root = parse(text, RUN_SOURCE, 1, report)
        given = read(root, sha256(text.encode()).hexdigest(), "default", report) if root is not None else None
        if given is None or not given.documents:
            raise Refused("; ".join(found.message for found in report) or "not a workload")
        ref = given.documents[0].ref
        self._documents[ref.namespace, ref.name] = given.documents[0]
        self._texts[ref.namespace, ref.name] = text

    def _drop(self, key: tuple[str, str]) -> None:
        del self._held[key]
        self.programs.pop(key, None)
        if self._documents.pop(key, None) is not None:
            del self._texts[key]
            self._write()

    def _write(self) -> None:
        if self._kept is not None:
            # On a full disk they do not outlive the control plane, which is all.
            with suppress(StateUnusable):
                self._kept.write_private(_FILE, "".join(f"{text}\n" for text in self._texts.values()).encode())
