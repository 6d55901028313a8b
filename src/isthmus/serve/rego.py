"""Between the control plane and the Rego engine: whether the texts of its RegoPolicies can decide."""

from __future__ import annotations

from isthmus.control.control_plane import ControlPlane
from isthmus.control.rego_finding import RegoText, rego_findings, rego_texts
from isthmus.decide.rego.load import examine_all


class RegoTexts:
    """Asks the engine about each text once, and tells the control plane what it says."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._known: dict[RegoText, str | None] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async for _ in self._plane.turns:
            wanted = rego_texts(self._plane.mesh)
            self._known = {text: problem for text, problem in self._known.items() if text in wanted}
            new = sorted(wanted - self._known.keys(), key=lambda text: text.policy)
            problems = await examine_all([(text.source, text.path) for text in new])
            self._known |= dict(zip(new, problems, strict=True))
            self._tell()

    def _tell(self) -> None:
        told = rego_findings(self._plane.mesh, self._known)
        if told != self._plane.inputs.learnt_of_rego:
            self._plane.inputs.learnt_of_rego = told
            self._plane.changed()
