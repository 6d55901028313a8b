from __future__ import annotations

import pytest

from isthmus.model.route import Redirect

from .route_manifest import route


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("redirect: {uri: /x}", Redirect(301, uri="/x")),
        (
            "redirect: {authority: a, scheme: https, redirectCode: 308}",
            Redirect(308, authority="a", scheme="https"),
        ),
        ("redirect: {port: 8443}", Redirect(port=8443)),
        ("redirect: {prefixRewrite: /x}", Redirect(prefix="/x")),
        ("match: [{uri: {prefix: /a}}, {method: {exact: GET}}]\n  redirect: {prefixRewrite: /}", Redirect(prefix="/")),
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
        ("redirect: {prefixRewrite: /x, uri: /y}", "7:15 error ISM1106"),
        ('redirect: {prefixRewrite: ""}', "7:31 error ISM1106"),
        ("match: [{uri: {exact: /a}}]\n  redirect: {prefixRewrite: /x}", "8:31 error ISM1106"),
        ("match: [{uri: {prefix: /a}}, {uri: {regex: /a.*}}]\n  redirect: {prefixRewrite: /x}", "8:31 error ISM1106"),
    ],
)
def test_redirects_that_cannot_be_read(redirect: str, found: str) -> None:
    assert route(redirect, "").found == [found]
