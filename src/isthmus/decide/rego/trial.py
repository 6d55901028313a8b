"""A process that says whether the engine can compile policies, apart from those who would have to live on.

What the engine does not understand may end its process. Standard input: JSON, an array of ``{"path", "modules":
[{"file", "text"}], "data"}``. Standard output: for each of them in turn a line of JSON, ``{"problem": text or null}``.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from typing import Any

from isthmus.decide.rego.engine import compile_policy
from isthmus.decide.rego.source import Module, Policy
from isthmus.errors import PolicyBroken

_SECONDS = 60


def problem(asked: Mapping[str, Any]) -> str | None:
    """Why it cannot decide; None: it can."""
    modules = tuple(Module(one["file"], one["text"]) for one in asked["modules"])
    try:
        compile_policy(Policy("", modules, asked["data"]), (asked["path"],))
    except PolicyBroken as broken:
        return str(broken)
    return None


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for asked in json.load(sys.stdin.buffer):
        found = problem(asked)
        # A line of its own: the engine may have written before.
        sys.stdout.write("\n" + json.dumps({"problem": found}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
