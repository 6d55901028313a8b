from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.filters.login_session import LOGIN_SESSION, LUA, LoginSession, SessionPlace
from isthmus.model.client_authentication import ApiKeyMethod
from tests.model.test_oidc import LOGIN


def test_the_script_runs_where_a_route_names_it_alone() -> None:
    (message,) = LOGIN_SESSION.build(LoginSession())
    config: Any = unpack(message.typed_config)
    assert not config.HasField("default_source_code")
    assert [one.inline_string for one in config.source_codes.values()] == [LUA]


def test_a_place_tells_the_script_of_its_login() -> None:
    assert LOGIN_SESSION.build_route is not None
    others = ApiKeyMethod(("authorization", "x-api-key"), ("key",), ())
    route: Any = LOGIN_SESSION.build_route(SessionPlace(LOGIN, others, available=False))
    told = dict(route.filter_context)
    assert route.name in {"login"}
    assert (told["prefix"], told["header"], told["forward"]) == (f"{LOGIN.cookies}-", LOGIN.header, "NONE")
    assert (told["headers"], told["query"], told["cookies"]) == ("authorization x-api-key", "key", "")
    assert told["unavailable"] == "yes"
    assert all(name.startswith(LOGIN.cookies) for name in told["session"].split())
    there: Any = LOGIN_SESSION.build_route(SessionPlace(LOGIN))
    assert dict(there.filter_context)["unavailable"] == "no"
