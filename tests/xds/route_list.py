"""Random lists of routes and requests, and what Envoy makes of them: for tests of trees."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import core_v3, matcher_v3, protobuf, route_v3


@dataclass(frozen=True)
class Request:
    """``path`` is with its query."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


SEGMENTS = ("a", "b", "A", "ab", "c")
PATHS = tuple(
    "/" + "/".join(segments)
    for segments in [
        *((one,) for one in SEGMENTS),
        *((one, two) for one in SEGMENTS for two in SEGMENTS),
        *((one, two, three) for one in SEGMENTS[:3] for two in SEGMENTS for three in SEGMENTS[:2]),
    ]
)
_INSENSITIVE = protobuf.BoolValue(value=False)
_SENSITIVE = protobuf.BoolValue(value=True)


def header(name: str, value: str) -> Any:
    return route_v3.HeaderMatcher(name=name, string_match=matcher_v3.StringMatcher(exact=value))


_WHERE = st.one_of(
    st.sampled_from([{"path": path} for path in PATHS]),
    st.sampled_from([{"prefix": f"{path}/"} for path in PATHS]),
    st.sampled_from([{"prefix": path} for path in PATHS[:8]]),
    st.sampled_from([{"path_separated_prefix": path} for path in PATHS[:8]]),
    st.sampled_from([{"path": path, "case_sensitive": _INSENSITIVE} for path in PATHS[:12]]),
    st.sampled_from([{"prefix": path, "case_sensitive": _INSENSITIVE} for path in PATHS[:12]]),
    st.sampled_from([{"prefix": f"{path}/", "case_sensitive": _SENSITIVE} for path in PATHS]),
    st.sampled_from(["/a/b/.*", "/a/(b|ab)/?", "(?i)/ab/.+", "/b.*/a", "/c/?"]).map(
        lambda pattern: {"safe_regex": matcher_v3.RegexMatcher(regex=pattern)}
    ),
)
_WHEN = st.one_of(
    st.just({}),
    st.just({}),
    st.sampled_from([{"headers": [header("x", "1")]}, {"headers": [header(":method", "PUT")]}]),
    st.just({"query_parameters": [route_v3.QueryParameterMatcher(name="q", present_match=True)]}),
)
_REST = st.sampled_from([[{"prefix": "/"}], [{"prefix": "/", "headers": [header("x", "1")]}, {"prefix": "/"}], []])


def route(name: str, where: Mapping[str, Any]) -> Any:
    """A route that answers with its name."""
    answer = route_v3.DirectResponseAction(status=200, body=core_v3.DataSource(inline_string=name))
    return route_v3.Route(name=name, match=route_v3.RouteMatch(**where), direct_response=answer)


TABLES = st.builds(
    lambda some, rest: [route(f"r{number}", where) for number, where in enumerate([*some, *rest])],
    st.lists(st.builds(lambda where, when: {**where, **when}, _WHERE, _WHEN), min_size=40, max_size=80),
    _REST,
)
"""Lists of routes, long enough to be trees; most end with one for everything."""

REQUESTS = st.builds(
    Request,
    st.builds(
        lambda path, end, query: path + end + query,
        st.sampled_from(("", *PATHS)),
        st.sampled_from(["", "/", "/b", "/A/x", "b", ";v=1"]),
        st.sampled_from(["", "", "?", "?q=1", "?x=/a/b"]),
    ).map(lambda path: path if path.startswith("/") else f"/{path}"),
    st.sampled_from(["GET", "PUT"]),
    st.sampled_from([{}, {"x": "1"}]),
)


def matches(match: Any, request: Request) -> bool:
    """What Envoy's RouteMatch means, as far as :data:`TABLES` go."""
    path, _, query = request.path.partition("?")
    sensitive = not match.HasField("case_sensitive") or match.case_sensitive.value

    def same(text: str) -> str:
        return text if sensitive else text.lower()

    match match.WhichOneof("path_specifier"):
        case "path":
            fits = same(path) == same(match.path)
        case "prefix":
            fits = same(path).startswith(same(match.prefix))
        case "path_separated_prefix":
            fits = f"{path}/".startswith(f"{match.path_separated_prefix}/")
        case "safe_regex":
            fits = re.fullmatch(match.safe_regex.regex, path) is not None
        case other:
            raise AssertionError(other)
    headers = {":method": request.method, **request.headers}
    given = {pair.partition("=")[0] for pair in query.split("&") if pair}
    return (
        fits
        and all(headers.get(one.name) == one.string_match.exact for one in match.headers)
        and all(one.name in given for one in match.query_parameters)
    )


def first(routes: Sequence[Any], request: Request) -> str | None:
    """The name of the route that a list gives."""
    return next((one.name for one in routes if matches(one.match, request)), None)


def found(matcher: Any, request: Request) -> str | None:
    """The name of the route that a tree gives."""
    leaves = matcher.matcher_tree.prefix_match_map.map
    key = max((key for key in leaves if request.path.startswith(key)), key=len, default=None)
    leaf = leaves[key] if key is not None else matcher.on_no_match
    if not leaf.HasField("action"):
        return None
    action: Any = unpack(leaf.action.typed_config)
    return first(action.routes, request)
