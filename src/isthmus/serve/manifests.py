"""The manifests of a running control plane: taken in, reported on, kept where they are good."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from isthmus.compile import Compiler
from isthmus.config.load import Loaded
from isthmus.config.resource import Document
from isthmus.control.control_plane import ControlPlane
from isthmus.control.last_good import LastGood
from isthmus.diag import Severity
from isthmus.errors import ManifestsBroken
from isthmus.serve.findings import Findings

logger = logging.getLogger(__name__)


class Manifests:
    """From what was loaded to what the control plane builds on."""

    def __init__(self, plane: ControlPlane, last_good: LastGood, findings: Findings, *, strict: bool) -> None:
        self._plane = plane
        self._last_good = last_good
        self._findings = findings
        self._strict = strict

    def first(self, loaded: Loaded, previous: tuple[Document, ...]) -> None:
        """The first load: errors end the start, unless an earlier one left good manifests to go on with."""
        plane = self._plane
        good = Compiler().compile(previous).good if previous else {}
        self._take(loaded)
        plane.rebuild(good)
        self._findings.show()
        stopping = [d for d in plane.diagnostics if d.severity is Severity.ERROR and (d.code.stops or self._strict)]
        if stopping and not previous:
            raise ManifestsBroken(f"{len(stopping)} error(s) in the manifests: nothing is started")
        if stopping:
            logger.warning("the manifests have errors: going on with the last good version of what is broken")
        else:
            self._last_good.save(plane.inputs.documents)

    def _take(self, loaded: Loaded) -> None:
        inputs = self._plane.inputs
        inputs.documents = loaded.documents
        inputs.loading = tuple(loaded.report)
        inputs.unparsed = loaded.broken

    async def follow(self, loads: AsyncIterator[Loaded]) -> None:
        async for loaded in loads:
            self._take(loaded)
            self._plane.changed()

    async def keep_good(self) -> None:
        async for _ in self._plane.turns:
            self._findings.show()
            if not any(found.code.stops for found in self._plane.diagnostics if found.severity is Severity.ERROR):
                self._last_good.save(self._plane.inputs.documents)
