"""``python -m isthmus.demo.shop orders|inventory|users``: one service of the shop, on 127.0.0.1:$PORT."""

from __future__ import annotations

import importlib
import sys

from isthmus.demo.serving import port_from_environment, serve

_SERVICES = ("orders", "inventory", "users")


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in _SERVICES:
        sys.exit(f"usage: python -m isthmus.demo.shop {'|'.join(_SERVICES)}")
    # By name: only orders needs an HTTP client, whose import takes longer than the rest of a start.
    service = importlib.import_module(f"isthmus.demo.shop.{sys.argv[1]}")
    serve(service.build_app(), port_from_environment())


if __name__ == "__main__":
    main()
