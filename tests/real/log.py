"""Access logs, as a test asks them."""

from __future__ import annotations

from typing import Any

from tests.real.up import Up, eventually


def logged(up: Up, proxy: str, **wanted: Any) -> dict[str, Any]:
    """The newest line of ``proxy``'s access log with these values, as soon as there is one."""

    def find() -> dict[str, Any] | None:
        lines = [line for line in up.access_log(proxy) if all(line.get(key) == value for key, value in wanted.items())]
        return lines[-1] if lines else None

    found: dict[str, Any] = eventually(find)
    return found
