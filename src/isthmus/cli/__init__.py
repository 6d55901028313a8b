"""The command line: ``isthmus``."""

from __future__ import annotations

import sys
import traceback

from isthmus.cli.exit import EXIT_OURS, EXIT_USER
from isthmus.errors import Refused, StateUnusable


def main() -> None:
    """Run the command line; end the process with one of the public exit codes."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    """Run one command and answer its exit code: 0 fine, 1 the manifests are at fault, 2 wrong usage, 70 our fault."""
    from isthmus.cli.app import app

    try:
        app(args=arguments, prog_name="isthmus")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except StateUnusable as unusable:
        print(f"isthmus: the state directory cannot be used: {unusable}", file=sys.stderr)
        return EXIT_USER
    except Refused as refused:
        print(f"isthmus: {refused}", file=sys.stderr)
        return EXIT_USER
    except Exception:
        traceback.print_exc()
        print("isthmus: this is a fault of Isthmus, not of your manifests", file=sys.stderr)
        return EXIT_OURS
    return 0
