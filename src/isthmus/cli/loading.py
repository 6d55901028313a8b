"""Loading manifests for a command that runs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.cli.report import print_text
from isthmus.compile import Compiled, Compiler
from isthmus.config.load import Loader
from isthmus.diag import Diagnostic, Severity
from isthmus.model.mesh import Mesh


def load(paths: Sequence[str]) -> tuple[Compiled, tuple[Diagnostic, ...]]:
    """What ``paths`` add up to, and everything found wrong on the way."""
    loaded = Loader().load(paths)
    compiled = Compiler().compile(loaded.documents, unparsed=loaded.broken)
    return compiled, (*loaded.report, *compiled.diagnostics)


def load_or_report(paths: Sequence[str]) -> Mesh | None:
    """The Mesh; None, with the reasons on standard error, if its errors would end a first start."""
    compiled, found = load(paths)
    print_text(one for one in found if one.severity is not Severity.INFO)
    stopping = any(one.severity is Severity.ERROR and one.code.stops for one in found)
    return None if stopping else compiled.mesh
