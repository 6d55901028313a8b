"""``python tests/again.py``: what failed in the run before, by itself, if that is little.

Beside three others a test may wait longer than it allows for. What fails alone as well is at fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FAILED = Path(__file__).parents[1] / ".pytest_cache" / "v" / "cache" / "lastfailed"
MOST = 10
"""More at once are no accident."""


def main() -> int:
    failed = list(json.loads(FAILED.read_text())) if FAILED.is_file() else []
    if not 0 < len(failed) <= MOST:
        return 1
    print(f"again, alone: {', '.join(failed)}", flush=True)
    return subprocess.call([sys.executable, "-m", "pytest", *failed], cwd=FAILED.parents[3])


if __name__ == "__main__":
    sys.exit(main())
