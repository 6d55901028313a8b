"""Virtual hosts with many routes: a tree over the path instead of a list.

Envoy searches a list of routes from its first to its last. The tree's leaves are such lists too, of those routes, in
order, that can match a path which begins like that (``model/reach.py``): the route that is found is the list's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from isthmus.envoy_api.packages import protobuf, route_v3
from isthmus.filters.matcher_tree import build_tree, header
from isthmus.model.match import Exact, Prefix, Regex
from isthmus.model.reach import EVERYWHERE, Reach, reach_of, worthwhile

SMALLEST = 32
"""Routes below which a list is as fast (``python -m bench trees``)."""

_PATH_ENDS = "?#"
"""What ends the path that routes are compared to; the tree's input goes on with the query."""

_COUNTS_BY_ITSELF = re.compile(r"\.(local_ratelimit|bandwidth_limit|admission_control)\.")
"""Filters that keep a count in each route's configuration: a copy of such a route would count apart."""


def virtual_host(name: str, domains: Sequence[str], routes: Sequence[Any]) -> Any:
    """A VirtualHost that answers as the list ``routes`` does: the first that matches."""
    found = route_v3.VirtualHost(name=name, domains=domains)
    reaches = [(_reach(route.match),) for route in routes]
    certain = {index for index, route in enumerate(routes) if _takes_all(route.match)}
    leaves = worthwhile(reaches, certain, smallest=SMALLEST)
    if leaves is None or any(_counts(route) for route in routes):
        found.routes.extend(routes)
        return found
    # What no key begins like (the "*" of OPTIONS, say) is not found either way, if no route could be.
    lists = {key: route_v3.RouteList(routes=[routes[index] for index in leaf]) for key, leaf in leaves.items() if leaf}
    found.matcher.CopyFrom(build_tree(header(":path"), lists))
    return found


def _reach(match: Any) -> Reach:
    """Where a RouteMatch can hold, of all paths."""
    fold = match.HasField("case_sensitive") and not match.case_sensitive.value
    match match.WhichOneof("path_specifier"):
        case "path":
            return reach_of(Exact(match.path, fold), _PATH_ENDS)
        case "prefix":
            return reach_of(Prefix(match.prefix, fold), _PATH_ENDS)
        case "path_separated_prefix":
            return reach_of(Prefix(match.path_separated_prefix, fold), _PATH_ENDS)
        case "safe_regex":
            return reach_of(Regex(match.safe_regex.regex), _PATH_ENDS)
    return EVERYWHERE


def _takes_all(match: Any) -> bool:
    """Whether no request whose path begins with the prefix can fail it."""
    plain = route_v3.RouteMatch(prefix=match.prefix)
    sensitive = route_v3.RouteMatch(prefix=match.prefix, case_sensitive=protobuf.BoolValue(value=True))
    return match in (plain, sensitive) and _reach(match).prefix == match.prefix


def _counts(route: Any) -> bool:
    return any(_COUNTS_BY_ITSELF.search(config.type_url) for config in route.typed_per_filter_config.values())
