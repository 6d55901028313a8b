"""What is left to do about a login once Envoy's login filter has let a request pass.

The login filter opens the cookies that it sealed and leaves them so in the request: a program, or an external
authorizer, would see the session's tokens. They are taken out here. And a provider need not give an ID token with every
refresh (OpenID Connect Core 1.0 section 12.2), after which the filter would renew for days a session that says nothing
of whose it is: such a one ends here, and a browser is sent to log in again.

In Lua, for Envoy has no other filter that takes a part out of a header; it runs where there is a login, and nowhere
else. A fault of the script lets the request on to the token filter, which refuses what has no ID token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import core_v3, lua_v3, protobuf
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.oauth2 import NOWHERE, cookie_name
from isthmus.model.client_authentication import ApiKeyMethod
from isthmus.model.oidc import OidcLogin

NAME = "isthmus.login"
"""Also the namespace of its dynamic metadata."""
REASON = "reason"
UNAVAILABLE = "login-unavailable"
_SCRIPT = "login"
_MOST_AGAIN = 2
"""Redirects in a row: the first may answer a request that renewed the session, so that only the second ends it."""

LUA = r"""
local function begins(text, prefix)
  return string.sub(text, 1, string.len(prefix)) == prefix
end

local function pairs_of(cookies)
  return string.gmatch(cookies or "", "[^;%s][^;]*")
end

local function value_of(cookies, name)
  for pair in pairs_of(cookies) do
    if begins(pair, name .. "=") then return string.sub(pair, string.len(name) + 2) end
  end
  return nil
end

local function strip(headers, prefix)
  local kept = {}
  for pair in pairs_of(headers:get("cookie")) do
    if not begins(pair, prefix) then table.insert(kept, pair) end
  end
  if #kept == 0 then
    headers:remove("cookie")
  else
    headers:replace("cookie", table.concat(kept, "; "))
  end
end

local function has(list, wanted)
  for name in string.gmatch(list, "%S+") do
    if name == wanted then return true end
  end
  return false
end

local function brings_other(headers, cookies, login)
  for name in string.gmatch(login:get("headers"), "%S+") do
    if headers:get(name) ~= nil then return true end
  end
  for name in string.gmatch(headers:get(":path"), "[?&]([^=&#]+)=") do
    if has(login:get("query"), name) then return true end
  end
  for name in string.gmatch(cookies or "", "([^;=%s]+)=") do
    if has(login:get("cookies"), name) then return true end
  end
  return false
end

local function is_navigation(headers)
  local method = headers:get(":method")
  local accept = headers:get("accept") or ""
  return (method == "GET" or method == "HEAD") and string.find(accept, "text/html", 1, true) ~= nil
end

local function again(handle, login, times)
  local headers = handle:headers()
  local cookies = {login:get("again") .. "=" .. times .. "; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"}
  for name in string.gmatch(login:get("session"), "%S+") do
    table.insert(cookies, name .. "=deleted; Path=/; Max-Age=0; Secure; HttpOnly")
  end
  local here = (headers:get("x-forwarded-proto") or "https") .. "://" .. headers:get(":authority")
  handle:respond({
    [":status"] = "302",
    ["location"] = here .. headers:get(":path"),
    ["cache-control"] = "no-store",
    ["set-cookie"] = cookies,
  }, "")
end

function envoy_on_request(handle)
  local login = handle:filterContext()
  local headers = handle:headers()
  local cookies = headers:get("cookie")
  local token = headers:get(login:get("header"))
  strip(headers, login:get("prefix"))
  if token == nil and brings_other(headers, cookies, login) then return end
  if login:get("unavailable") == "yes" then
    handle:streamInfo():dynamicMetadata():set("isthmus.login", "reason", "login-unavailable")
    handle:respond({[":status"] = "503", ["cache-control"] = "no-store"}, "login unavailable")
    return
  end
  if token == nil then
    local tried = tonumber(value_of(cookies, login:get("again"))) or 0
    if is_navigation(headers) and tried < tonumber(login:get("most")) then again(handle, login, tried + 1) end
    return
  end
  if login:get("forward") == "ID" then headers:replace("authorization", "Bearer " .. token) end
end
"""


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """A place with a login. ``available``: whether its provider is known; if not, nobody can log in there."""

    login: OidcLogin
    others: ApiKeyMethod = NOWHERE
    """Where other credentials may be that the same place takes."""
    available: bool = True


@dataclass(frozen=True, slots=True)
class LoginSession:
    """Nothing is done, but where a route says so (:class:`SessionPlace`)."""


def _build(config: LoginSession) -> tuple[Any, ...]:
    source = core_v3.DataSource(inline_string=LUA)
    return (http_filter(NAME, lua_v3.Lua(source_codes={_SCRIPT: source})),)


def _build_route(config: SessionPlace) -> Any:
    context = protobuf.Struct()
    context.update(_context(config))
    return lua_v3.LuaPerRoute(name=_SCRIPT, filter_context=context)


def _context(place: SessionPlace) -> dict[str, str]:
    login = place.login
    session = ("oauth_hmac", "oauth_expires", "id_token", "refresh_token", "bearer_token")
    return {
        "prefix": f"{login.cookies}-",
        "session": " ".join(cookie_name(login, name) for name in session),
        "again": cookie_name(login, "again"),
        "most": str(_MOST_AGAIN),
        "header": login.header,
        "headers": " ".join(place.others.headers),
        "query": " ".join(place.others.query),
        "cookies": " ".join(place.others.cookies),
        "forward": login.forward.value,
        "unavailable": "no" if place.available else "yes",
    }


LOGIN_SESSION = Filter(NAME, LoginSession, _build, _build_route, SessionPlace)
