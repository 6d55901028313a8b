"""Logins of browsers, on a real Envoy and real providers: what a session is, and what is none."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
import pytest

from tests.real.chromium import new_page
from tests.real.client_authentication import jwt
from tests.real.fields import enforces
from tests.real.fields_peer import bearer
from tests.real.login import (
    BEARERS,
    OTHER,
    SECRET,
    SHOP,
    TOLD_SECRET,
    Site,
    callback,
    endpoints,
    log_in,
    login,
    running,
    seen,
)
from tests.real.traffic import dump, routes, to
from tests.real.up import contents, eventually

pytestmark = pytest.mark.real

OIDC = "ClientAuthentication.spec.methods[].oidc."


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("logins")) as found:
        yield found


def test_a_browser_logs_in(site: Site) -> None:
    browser = site.browser()
    page = log_in(site, browser, "/mock/page?a=1")
    assert (page.status_code, page.json()["path"]) == (200, "/mock/page?a=1")
    assert browser.get(site.url("/mock/again")).status_code == 200
    # None of the session's tokens leaves the proxy.
    assert seen(page, "cookie") is None
    assert seen(page, "authorization") is None
    assert not [name for name, _ in page.json()["headers"] if "isthmus" in name]


@enforces(
    f"{OIDC}issuer",
    f"{OIDC}clientId",
    f"{OIDC}scopes",
    f"{OIDC}redirectPath",
)
def test_the_provider_is_asked_as_the_policy_says(site: Site) -> None:
    asked = site.browser().get(site.url("/mock/page"))
    location = urlsplit(asked.headers["location"])
    query = {name: values[0] for name, values in parse_qs(location.query).items()}
    assert f"{location.scheme}://{location.netloc}" == site.mock
    assert (query["client_id"], query["scope"], query["response_type"]) == ("shop", "openid email", "code")
    assert query["redirect_uri"] == site.url("/oauth2/callback")
    assert query["code_challenge_method"] == "S256"
    # Another route has another provider, and other paths.
    own = urlsplit(site.browser().get(site.url("/own/")).headers["location"])
    assert parse_qs(own.query)["redirect_uri"] == [site.url("/own/callback")]
    log_in(site, site.browser(), "/own/page")
    request = site.own.token_requests[-1]
    assert base64.b64decode(request["authorization"].removeprefix("Basic ")).decode().startswith("shop:")
    # A route that no policy names is nobody's business.
    assert site.browser().get(site.url("/open/")).status_code == 200


@enforces(f"{OIDC}clientAuth", f"{OIDC}cookies.prefix", f"{OIDC}cookies.sameSite", f"{OIDC}forwardToken")
def test_another_host_has_a_session_of_its_own(site: Site) -> None:
    browser = site.browser()
    page = log_in(site, browser, "/own/page")
    assert (seen(page, "authorization") or "").count(".") == 2, "the ID token"
    other = log_in(site, browser, "/", OTHER)
    request = site.own.token_requests[-1]
    assert (request["authorization"], request["client_secret"]) == ("", SECRET)
    bearer_token = seen(other, "authorization") or ""
    assert bearer_token.startswith("Bearer ")
    assert "." not in bearer_token, "the access token"
    assert all(name.startswith("__Host-tenant-") for name in browser.jars[OTHER])
    assert all(name.startswith("__Host-isthmus-") for name in browser.jars[SHOP])
    asked = browser.get(site.url("/", OTHER), cookie="")
    cookies = asked.headers.get_list("set-cookie")
    assert all("SameSite=None" in one and "HttpOnly" in one and "secure" in one.lower() for one in cookies)
    lax = site.browser().get(site.url("/own/")).headers.get_list("set-cookie")
    assert all("SameSite=Lax" in one and "HttpOnly" in one and "secure" in one.lower() for one in lax)


@enforces(f"{OIDC}outputClaimToHeaders[].header", f"{OIDC}outputClaimToHeaders[].claim")
def test_the_program_is_told_who_it_is_and_nobody_else_tells_it(site: Site) -> None:
    browser = site.browser()
    assert seen(log_in(site, browser, "/own/page"), "x-login-user") == "alice"
    assert seen(browser.get(site.url("/own/page"), x_login_user="mallory"), "x-login-user") == "alice"
    assert seen(browser.get(site.url("/open/"), x_login_user="mallory"), "x-login-user") is None


def test_what_a_session_may_do_is_said_by_the_claims_of_its_user(site: Site) -> None:
    for groups, status in ((["guests"], 403), (["staff"], 200)):
        site.own.claims = {"groups": groups}
        try:
            browser = site.browser()
            assert log_in(site, browser, "/own/page").status_code == 200
        finally:
            site.own.claims = {}
        assert browser.get(site.url("/own/staff")).status_code == status


def test_a_session_is_good_at_one_host_and_for_one_login(site: Site) -> None:
    browser = site.browser()
    assert log_in(site, browser, "/own/page").status_code == 200
    cookies = "; ".join(f"{name}={value}" for name, value in browser.jars[SHOP].items())
    assert browser.get(site.url("/own/page"), cookie=cookies).status_code == 200
    for elsewhere in (site.url("/", OTHER), site.url("/mock/page")):
        assert site.browser().get(elsewhere, cookie=cookies).status_code == 302
    # Nor under the names that the other tenant's cookies have.
    renamed = cookies
    for name in browser.jars[SHOP]:
        renamed = renamed.replace(name, "__Host-tenant-" + name.split("-", 3)[3])
    assert site.browser().get(site.url("/", OTHER), cookie=renamed).status_code == 302


@pytest.mark.parametrize("which", ["id-token", "oauth-hmac", "oauth-expires"])
def test_a_cookie_that_was_tampered_with_is_no_session(site: Site, which: str) -> None:
    # At the host without refresh tokens: with one there is a new session, of the same user.
    browser = site.browser()
    log_in(site, browser, "/", OTHER)
    jar = browser.jars[OTHER]
    name = next(one for one in jar if which in one)
    changed = "9999999999" if which == "oauth-expires" else f"{jar[name][:-6]}AAAAA="
    cookies = "; ".join(f"{one}={changed if one == name else value}" for one, value in jar.items())
    assert site.browser().get(site.url("/", OTHER), cookie=cookies).status_code == 302
    whole = "; ".join(f"{one}={value}" for one, value in jar.items())
    assert site.browser().get(site.url("/", OTHER), cookie=whole).status_code == 200


def test_a_callback_is_good_once_and_in_its_own_browser(site: Site) -> None:
    browser, stranger = site.browser(), site.browser()
    back = callback(site, browser)
    assert stranger.get(back).status_code == 401
    assert site.reason("/oauth2/callback") == "login-failed"
    # Somebody else's login must not become ours either, though we are in the middle of one.
    stranger.get(site.url("/mock/page"))
    assert stranger.get(back).status_code == 401
    flow = dict(browser.jars[SHOP])
    assert browser.get(back).status_code == 302
    browser.jars[SHOP] = flow
    assert browser.get(back).status_code == 401
    assert browser.get(site.url("/oauth2/callback?error=access_denied")).status_code == 401
    assert browser.get(site.url("/oauth2/callback")).status_code == 401


@enforces(f"{OIDC}allowedRedirectDomains")
def test_a_login_leads_back_to_hosts_of_the_gateway_alone(site: Site) -> None:
    evil, partner = "https://evil.example.org/", "https://www.partner.example.org/"
    cases = (
        ("/mock", evil, 401),
        ("/mock", partner, 401),
        ("/mock", site.url("/mock/else"), 302),
        ("/own", partner, 302),
        ("/own", "https://partner.example.org.evil.example.org/", 401),
    )
    for path, target, status in cases:
        browser = site.browser()
        back = urlsplit(callback(site, browser, path + "/page"))
        query = {name: values[0] for name, values in parse_qs(back.query).items()}
        state = json.loads(base64.urlsafe_b64decode(query["state"] + "=" * (-len(query["state"]) % 4)))
        state["url"] = target
        query["state"] = base64.urlsafe_b64encode(json.dumps(state).encode()).decode().rstrip("=")
        answered = browser.get(site.url(f"{back.path}?{urlencode(query)}"))
        assert answered.status_code == status, target
        assert "evil" not in answered.headers.get("location", "")


def test_what_cannot_follow_a_redirect_is_refused(site: Site) -> None:
    assert site.browser().get(site.url("/mock/api"), accept="application/json").status_code == 401
    assert site.reason("/mock/api") == "login-required"
    assert site.browser().get(site.url("/mock/form"), method="POST").status_code == 401
    with httpx.Client(verify=site.up.trust(), trust_env=False, timeout=30) as client:
        bare = client.get(
            f"https://127.0.0.1:{site.port}/mock/bare",
            headers={"host": SHOP, "x-requested-with": "XMLHttpRequest"},
            extensions={"sni_hostname": SHOP},
        )
    assert bare.status_code == 401
    # Whoever has a session asks as he likes.
    browser = site.browser()
    log_in(site, browser)
    assert browser.get(site.url("/mock/api"), accept="application/json").status_code == 200


def test_a_bearer_token_stands_beside_a_login_where_the_route_takes_both(site: Site) -> None:
    good, strange = bearer(site.up, BEARERS), bearer(site.up, "https://strange.example.com")
    assert site.browser().get(site.url("/mixed/"), authorization=f"Bearer {good}").status_code == 200
    assert site.browser().get(site.url("/mixed/"), authorization=f"Bearer {strange}").status_code == 401
    assert site.browser().get(site.url("/mixed/"), authorization="Basic YTpi").status_code == 302
    assert site.browser().get(site.url("/mixed/")).status_code == 302
    assert log_in(site, site.browser(), "/mixed/page").status_code == 200
    # Elsewhere it is none: not even the provider's own ID token.
    token = site.own.id_token("shop")
    for path in ("/own/", "/mixed/"):
        assert site.browser().get(site.url(path), authorization=f"Bearer {token}").status_code != 200
    assert site.browser().get(site.url("/own/"), authorization=f"Bearer {good}").status_code == 302


def test_nobody_hands_the_proxy_an_id_token_in_its_own_header(site: Site) -> None:
    token = site.own.id_token("shop")
    browser = site.browser()
    log_in(site, browser, "/own/page")
    key = next(iter(browser.jars[SHOP])).split("-")[2]
    header = {f"x-isthmus-login-{key}": token}
    assert site.browser().get(site.url("/own/"), **header).status_code == 302
    bad = bearer(site.up, "https://strange.example.com")
    assert site.browser().get(site.url("/mixed/"), **header, authorization=f"Bearer {bad}").status_code == 401
    assert seen(site.browser().get(site.url("/open/"), **header), f"x-isthmus-login-{key}") is None


@pytest.mark.parametrize(
    "lie",
    [{"stranger": True}, {"claims": {"aud": "somebody else"}}, {"claims": {"iss": "https://else.example.com"}}],
    ids=["signed by a stranger", "for another client", "of another issuer"],
)
def test_an_id_token_that_does_not_verify_is_no_session(site: Site, lie: dict[str, object]) -> None:
    for name, value in lie.items():
        setattr(site.own, name, value)
    try:
        browser = site.browser()
        assert log_in(site, browser, "/own/page").status_code in (401, 403)
    finally:
        site.own.stranger, site.own.claims = False, {}
    assert log_in(site, site.browser(), "/own/page").status_code == 200


@enforces(f"{OIDC}logoutPath", f"{OIDC}postLogoutRedirect")
def test_who_logs_out_is_logged_out(site: Site) -> None:
    browser = site.browser()
    log_in(site, browser, "/own/page")
    answered = browser.get(site.url("/own/logout"))
    location = urlsplit(answered.headers["location"])
    query = {name: values[0] for name, values in parse_qs(location.query).items()}
    assert f"{location.scheme}://{location.netloc}{location.path}" == f"{site.own.issuer}/end"
    assert query["post_logout_redirect_uri"] == site.url("/open/bye")
    assert query["id_token_hint"].count(".") == 2
    # The secrets of the session are gone from the browser.
    assert not [name for name in browser.jars[SHOP] if "expires" not in name]
    assert browser.get(site.url("/own/page")).status_code == 302


@enforces(f"{OIDC}refresh")
def test_a_session_is_renewed_while_the_provider_likes_it(site: Site) -> None:
    browser = site.browser()
    site.own.lifetime_seconds = 4
    try:
        log_in(site, browser, "/own/page")
        log_in(site, browser, "/", OTHER)
    finally:
        site.own.lifetime_seconds = 3600
    before = site.own.refreshes
    expired = dict(browser.jars[SHOP])
    eventually(lambda: browser.get(site.url("/own/page")).status_code == 200 and site.own.refreshes > before, 60)
    assert browser.get(site.url("/own/page")).status_code == 200
    assert browser.jars[SHOP] != expired
    assert not [name for name in browser.jars[OTHER] if "refresh" in name]
    # It began after the other one, and ends after it.
    eventually(lambda: browser.get(site.url("/", OTHER)).status_code == 302, 60)


def test_a_session_that_lost_its_id_token_begins_anew(site: Site) -> None:
    browser = site.browser()
    site.own.lifetime_seconds, site.own.id_token_on_refresh = 4, False
    try:
        log_in(site, browser, "/own/page")
        before = site.own.refreshes

        def renewed() -> bool:
            answered = browser.get(site.url("/own/page"))
            return site.own.refreshes > before and answered.status_code == 302

        eventually(renewed, 60)
        site.own.lifetime_seconds = 3600
        # The browser is led to log in again, where the provider still knows alice.
        assert browser.follow(site.url("/own/page")).status_code == 200
    finally:
        site.own.lifetime_seconds, site.own.id_token_on_refresh = 3600, True
    assert browser.get(site.url("/own/page")).status_code == 200


def test_where_the_provider_lies_nobody_gets_in(site: Site) -> None:
    assert site.browser().get(site.url("/lying/page")).status_code == 503
    assert site.reason("/lying/page") == "login-unavailable"
    assert site.browser().get(site.url("/lying/callback?code=a&state=b")).status_code == 503
    eventually(lambda: "ISM7020" in site.up.output and "another issuer" in site.up.output, 60)
    site.lost.discovery = {}
    eventually(lambda: site.browser().get(site.url("/lying/page")).status_code == 302, 90)
    # It lies again: what was known stays.
    site.lost.discovery = {"issuer": "https://elsewhere.example.com"}
    assert site.browser().get(site.url("/lying/page")).status_code == 302


@enforces(
    f"{OIDC}clientSecretRef.name",
    f"{OIDC}clientSecretRef.key",
    f"{OIDC}sessionLifetime",
    *(f"{OIDC}endpoints.{name}" for name in ("authorization", "token", "jwks", "endSession")),
)
def test_endpoints_may_be_written_down(site: Site) -> None:
    site.told.claims = {"iss": "urn:told"}
    browser = site.browser()
    assert log_in(site, browser, "/told/page").status_code == 200
    basic = base64.b64decode(site.told.token_requests[-1]["authorization"].removeprefix("Basic ")).decode()
    assert basic.partition(":")[2] in (TOLD_SECRET, quote(TOLD_SECRET, safe=""))
    kept = [line for line in browser.set_cookies if "refresh-token" in line]
    assert kept
    assert all("Max-Age=900" in line for line in kept)
    left = browser.get(site.url("/told/logout")).headers["location"]
    assert left.startswith(f"{site.told.issuer}/end?")
    # The token endpoint is whoever its certificate says it is, and keys are not taken from strangers either.
    assert log_in(site, site.browser(), "/strange/page").status_code == 401
    assert site.reason("/strange/callback") == "login-failed"


def test_a_login_comes_while_the_gateway_runs(site: Site) -> None:
    assert site.browser().get(site.url("/late/")).status_code == 200
    nowhere = "https://nowhere.invalid"
    where = {"authorization": f"{nowhere}/a", "token": f"{nowhere}/t", "jwks": f"{nowhere}/j"}
    late = login("late", nowhere, endpoints=where)
    site.up.write("late.yaml", dump(late))
    eventually(lambda: site.browser().get(site.url("/late/")).status_code == 302, 60)
    assert site.browser().get(site.url("/own/")).status_code == 302
    site.up.remove("late.yaml")
    eventually(lambda: site.browser().get(site.url("/late/")).status_code == 200, 60)


def test_where_claims_choose_the_route_a_login_takes_its_sessions_alone(site: Site) -> None:
    """First comes a route that takes bearer tokens of the same issuer, too; their claims lead to one that does not."""
    staff = {"uri": {"prefix": "/chosen"}, "headers": {"@request.auth.claims.groups": {"exact": "staff"}}}
    http = [
        {"name": name, "match": [match], "headers": {"response": {"set": {"x-taken": name}}}, "route": [to("web")]}
        for name, match in (("staff", staff), ("any", {"uri": {"prefix": "/chosen"}}))
    ]
    secret = {"name": "told", "key": "password"}
    session = login("chosen", BEARERS, endpoints=endpoints(site.told), clientSecretRef=secret)
    both = [{"kind": "VirtualService", "name": "chosen", "sectionName": name} for name in ("staff", "any")]
    session["spec"]["targetRefs"] = both
    bearers = {**session, "metadata": {"name": "any", "namespace": "shop"}}
    bearers["spec"] = {"targetRefs": both[1:], "methods": [jwt(BEARERS)]}
    site.up.write("chosen.yaml", dump(routes("chosen", [SHOP], *http, gateways=["edge"]), session, bearers))
    site.told.claims, site.told.lifetime_seconds = {"iss": BEARERS, "groups": ["staff"]}, 3600
    try:
        eventually(lambda: site.browser().get(site.url("/chosen/")).status_code == 302, 60)
        page = log_in(site, site.browser(), "/chosen/page")
        assert (page.status_code, page.headers["x-taken"]) == (200, "staff")
        plain = site.browser().get(site.url("/chosen/"), authorization=f"Bearer {bearer(site.up, BEARERS)}")
        assert (plain.status_code, plain.headers["x-taken"]) == (200, "any")
        token = bearer(site.up, BEARERS, groups=["staff"])
        refused = site.browser().get(site.url("/chosen/bearer"), authorization=f"Bearer {token}")
        assert (refused.status_code, site.reason("/chosen/bearer")) == (401, "credential-missing")
    finally:
        site.told.claims = {}
        site.up.remove("chosen.yaml")


def test_a_person_logs_in_and_out(site: Site) -> None:
    with new_page(SHOP) as page:
        at = site.url("")
        page.goto(f"{at}/mock/page?a=1")
        assert page.url.startswith(site.mock)
        page.fill("input[name=sub]", "alice")
        page.get_by_role("button", name="Authorize").click()
        page.wait_for_url(f"{at}/mock/page?a=1")
        assert '"path": "/mock/page?a=1"' in page.content()
        cookies = page.context.cookies(at)
        assert {cookie["name"].rpartition("-")[2] for cookie in cookies} >= {"hmac", "expires", "token"}
        for cookie in cookies:
            assert cookie["name"].startswith("__Host-isthmus-")
            assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Lax")
        assert page.evaluate("document.cookie") == ""
        # A second page needs no login, and what a page's script asks for has the session, too.
        second = page.goto(f"{at}/mock/second")
        assert second is not None
        assert second.status == 200
        asked = "fetch('/mock/api', {headers: {accept: 'application/json'}}).then(answer => answer.status)"
        assert page.evaluate(asked) == 200
        page.goto(f"{at}/logout")
        assert page.url.startswith(f"{site.mock}/oauth2/end_session")
        assert not [one["name"] for one in page.context.cookies(at) if not one["name"].endswith("expires")]
        page.goto(f"{at}/mock/page")
        assert page.url.startswith(site.mock)


def test_secrets_stay_where_they_belong(site: Site) -> None:
    """The client's secret is in the manifest, the key of the cookies in one file; neither in xDS, a log or a plan."""
    key = (site.up.state / "oidc" / "cookie.key").read_bytes()
    assert (site.up.state / "oidc" / "cookie.key").stat().st_mode & 0o777 == 0o600
    needles = (SECRET.encode(), key, key.hex().encode())
    for file, content in contents(site.up.state):
        assert file.name == "cookie.key" or not any(needle in content for needle in needles), file
    assert SECRET not in site.up.output
