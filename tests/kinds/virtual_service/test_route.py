from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.model.route import Forward, Redirect, Retry, Rewrite


def route(fields: str, destination: str = "\n  route: [{destination: {host: orders}}]") -> Compiled:
    """``fields`` begin at 7:5."""
    return compiled(networking("VirtualService", f"hosts: [orders]\nhttp:\n- {fields}{destination}"), ORDERS)


def forward(fields: str) -> Forward:
    done = route(fields)
    assert done.found == []
    action = done.mesh.routes[0].routes[0].action
    assert isinstance(action, Forward)
    return action


DEFAULT = ("connect-failure", "refused-stream", "unavailable", "cancelled")


@pytest.mark.parametrize(
    ("retries", "expected"),
    [
        ("name: defaults", Retry(2, DEFAULT)),
        ("retries: {attempts: 0}", Retry(0, DEFAULT)),
        ("retries: {}", Retry(0, DEFAULT)),
        ("retries: {attempts: 3, perTryTimeout: 2s}", Retry(3, DEFAULT, (), timedelta(seconds=2))),
        (
            "retries: {attempts: 2, retryOn: '5xx,reset, connect-failure'}",
            Retry(2, ("5xx", "reset", "connect-failure")),
        ),
        (
            "retries: {attempts: 1, retryOn: 'gateway-error,503,418'}",
            Retry(1, ("gateway-error", "retriable-status-codes"), (503, 418)),
        ),
        (
            "retries: {attempts: 1, retryOn: 'retriable-status-codes,503'}",
            Retry(1, ("retriable-status-codes",), (503,)),
        ),
    ],
)
def test_retries(retries: str, expected: Retry) -> None:
    assert forward(retries).retry == expected


@pytest.mark.parametrize(
    ("retries", "found"),
    [
        ("retries: {attempts: -1}", "7:25 error ISM1106"),
        ("retries: {perTryTimeout: 2s}", "7:14 error ISM1106"),
        ("retries: {attempts: 0, retryOn: 5xx}", "7:14 error ISM1106"),
        ("retries: {attempts: 1, retryOn: 6xx}", "7:37 error ISM1106"),
        ("retries: {attempts: 1, retryOn: '5xx,'}", "7:37 error ISM1106"),
        ("retries: {attempts: 1, retryOn: '700'}", "7:37 error ISM1106"),
        ("retries: {attempts: 1, perTryTimeout: 0s}", "7:43 error ISM1106"),
        ("retries: {attempts: 1, backoff: 1s}", "7:28 warning ISM1104"),
        ("retries: {attempts: 1, retryRemoteLocalities: true}", "7:28 warning ISM1104"),
    ],
)
def test_retries_told_of(retries: str, found: str) -> None:
    done = route(retries)
    assert done.found == [found]
    assert bool(done.mesh.routes) is ("warning" in found)


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        ("rewrite: {uri: /v2}", Rewrite(uri="/v2")),
        ("rewrite: {authority: a.example.com}", Rewrite(authority="a.example.com")),
        (
            "rewrite: {uriRegexRewrite: {match: '^/a/(.*)', rewrite: '/\\1'}, authority: b}",
            Rewrite(authority="b", uri_regex=("^/a/(.*)", "/\\1")),
        ),
    ],
)
def test_rewrites(rewrite: str, expected: Rewrite) -> None:
    assert forward(rewrite).rewrite == expected


@pytest.mark.parametrize(
    ("rewrite", "found"),
    [
        ("rewrite: {}", "7:14 error ISM1106"),
        ("rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}", "7:14 error ISM1106"),
        ("rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}", "7:40 error IST0122"),
        ("rewrite: {uriRegexRewrite: {match: '*', rewrite: b}}", "7:40 error IST0122"),
        ("rewrite: {uriRegexRewrite: {match: a, rewrite: '\\x'}}", "7:32 error ISM1106"),
        ("rewrite: {uriRegexRewrite: {match: a}}", "7:32 error ISM1103"),
    ],
)
def test_rewrites_that_cannot_be_read(rewrite: str, found: str) -> None:
    assert route(rewrite).found == [found]


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("redirect: {uri: /x}", Redirect(301, uri="/x")),
        (
            "redirect: {authority: a, scheme: https, redirectCode: 308}",
            Redirect(308, authority="a", scheme="https"),
        ),
        ("redirect: {port: 8443}", Redirect(port=8443)),
        (
            "redirect: {scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}",
            Redirect(scheme="https", port_of_scheme=True),
        ),
        ("redirect: {uri: /, derivePort: FROM_REQUEST_PORT}", Redirect(uri="/", port_from_request=True)),
    ],
)
def test_redirects(redirect: str, expected: Redirect) -> None:
    done = route(redirect, "")
    assert done.found == []
    assert done.mesh.routes[0].routes[0].action == expected


@pytest.mark.parametrize(
    ("redirect", "found"),
    [
        ("redirect: {}", "7:15 error ISM1106"),
        ("redirect: {redirectCode: 301}", "7:15 error ISM1106"),
        ("redirect: {uri: /, redirectCode: 200}", "7:38 error ISM1106"),
        ("redirect: {scheme: ftp}", "7:24 error ISM1106"),
        ("redirect: {port: 80, derivePort: FROM_REQUEST_PORT}", "7:15 error ISM1106"),
        ("redirect: {prefixRewrite: /x}", "7:31 error ISM2101"),
    ],
)
def test_redirects_that_cannot_be_read(redirect: str, found: str) -> None:
    assert route(redirect, "").found == [found]
