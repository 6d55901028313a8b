"""What a route does to headers, in Envoy's form."""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api.packages import core_v3
from isthmus.model.route import HeaderOperations


def written_authority(operations: HeaderOperations) -> str | None:
    """The Host that the headers set, which rewrites the authority instead."""
    return next((value for name, value in operations.set if name.lower() in ("host", ":authority")), None)


def add_headers(built: Any, request: HeaderOperations, response: HeaderOperations) -> None:
    """Pseudo headers and Host are left out: Host rewrites the authority instead, the others Envoy refuses."""
    built.request_headers_to_add.extend(_header_options(request))
    built.request_headers_to_remove.extend(_removable(request))
    built.response_headers_to_add.extend(_header_options(response))
    built.response_headers_to_remove.extend(_removable(response))


def _removable(operations: HeaderOperations) -> list[str]:
    """Each name, and the one that a CGI or WSGI program could not tell from it: ``x_user`` of ``x-user``."""
    names = [name for name in operations.remove if not name.startswith(":") and name.lower() != "host"]
    return list(dict.fromkeys(alike for name in names for alike in (name, name.replace("-", "_"))))


def _header_options(operations: HeaderOperations) -> list[Any]:
    action = core_v3.HeaderValueOption.HeaderAppendAction
    wanted = [(name, value, "OVERWRITE_IF_EXISTS_OR_ADD") for name, value in operations.set]
    wanted += [(name, value, "APPEND_IF_EXISTS_OR_ADD") for name, value in operations.add]
    return [
        core_v3.HeaderValueOption(
            header=core_v3.HeaderValue(key=name, value=value),
            append_action=action.Value(how),
            keep_empty_value=True,
        )
        for name, value, how in wanted
        if not name.startswith(":") and name.lower() != "host"
    ]
