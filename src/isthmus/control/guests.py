"""Workloads of ``isthmus run``: LocalWorkloads without a file, for as long as somebody holds them."""

from __future__ import annotations

import json
import secrets
from hashlib import sha256

from isthmus.config.documents import read
from isthmus.config.parse import parse
from isthmus.config.resource import Document
from isthmus.diag import Ref, Report
from isthmus.errors import Refused
from isthmus.kinds.shape.service_account import service_account_problem

_FILE = "<isthmus run>"


_PREFIX = "run-"


def is_guest(ref: Ref) -> bool:
    """Whether a resource is one that ``isthmus run`` added."""
    return ref.kind == "LocalWorkload" and ref.name.startswith(_PREFIX)


class Guests:
    """The workloads that exist now, as documents that compile like any other."""

    def __init__(self) -> None:
        self._documents: dict[tuple[str, str], Document] = {}

    @property
    def documents(self) -> tuple[Document, ...]:
        return tuple(self._documents.values())

    def add(self, namespace: str, service_account: str, labels: dict[str, str]) -> str:
        """A new workload; answers its name. Raises Refused for a namespace or label that is none."""
        problem = service_account_problem(service_account)
        if problem is not None:
            raise Refused(problem)
        name = f"{_PREFIX}{secrets.token_hex(4)}"
        manifest = {
            "apiVersion": "isthmus.dev/v1alpha1",
            "kind": "LocalWorkload",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"serviceAccount": service_account, "labels": labels},
        }
        text = json.dumps(manifest)
        report = Report()
        root = parse(text, _FILE, 1, report)
        given = read(root, sha256(text.encode()).hexdigest(), namespace, report) if root is not None else None
        if given is None or not given.documents:
            raise Refused("; ".join(found.message for found in report) or "not a workload")
        self._documents[namespace, name] = given.documents[0]
        return name

    def remove(self, namespace: str, name: str) -> None:
        self._documents.pop((namespace, name), None)
