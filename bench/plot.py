"""Pictures of stored rounds: ``python -m bench.plot RESULT.json...`` writes an SVG beside each file."""

from __future__ import annotations

import json
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHAIN = re.compile(r"chains: level (\d) \((.*)\): (.*), (proxies' CPU|p50 at .*|p99 at .*)$")


@dataclass(frozen=True)
class Bar:
    """One chain at one level: the median of its rounds, and how far they lie apart."""

    level: str
    chain: str
    median: float
    low: float
    high: float


def bars(rows: list[dict[str, Any]], figure: str) -> list[Bar]:
    """The rows of ``chains`` whose figure begins with ``figure`` (``proxies' CPU``, ``p50``, ``p99``)."""
    found = []
    for row in rows:
        match = _CHAIN.match(row["name"])
        if match is not None and match[4].startswith(figure):
            rounds = row["rounds"]
            found.append(Bar(match[1], match[3], statistics.median(rounds), min(rounds), max(rounds)))
    return found


def draw(result: Path) -> Path | None:
    """One panel a figure, a group of bars a level, whiskers from the lowest round to the highest."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = json.loads(result.read_text())["rows"]
    panels = [
        (title, found)
        for title, key in (("CPU of all proxies, us/request", "proxies' CPU"), ("p50, ms", "p50"), ("p99, ms", "p99"))
        if (found := bars(rows, key))
    ]
    if not panels:
        return None
    figure = Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
    for place, (title, found) in enumerate(panels, start=1):
        _panel(figure.add_subplot(1, len(panels), place), title, found)
    target = result.with_suffix(".svg")
    FigureCanvasSVG(figure).print_svg(str(target))
    return target


def _panel(axes: Any, title: str, found: list[Bar]) -> None:
    levels = sorted({bar.level for bar in found})
    chains = list(dict.fromkeys(bar.chain for bar in found))
    width = 0.8 / len(chains)
    for number, chain in enumerate(chains):
        own = [bar for bar in found if bar.chain == chain]
        places = [levels.index(bar.level) + number * width for bar in own]
        spread = [[bar.median - bar.low for bar in own], [bar.high - bar.median for bar in own]]
        axes.bar(places, [bar.median for bar in own], width, yerr=spread, capsize=2, label=chain)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(levels))], [f"level {level}" for level in levels])
    axes.set_title(title)
    axes.legend(fontsize="small")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(draw(Path(name)) or f"{name}: nothing to draw")
