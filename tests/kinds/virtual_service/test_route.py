from __future__ import annotations

import pytest

from isthmus.model.route import Destination, Mirror, Rewrite

from .route_manifest import TO_ORDERS, forward, route


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
        ('rewrite: {uri: ""}', "7:20 error ISM1106"),
        ('rewrite: {authority: ""}', "7:26 error ISM1106"),
        ("rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}", "7:14 error ISM1106"),
        ("rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}", "7:40 error IST0122"),
        ("rewrite: {uriRegexRewrite: {match: '*', rewrite: b}}", "7:40 error IST0122"),
        ("rewrite: {uriRegexRewrite: {match: a, rewrite: '\\x'}}", "7:32 error ISM1106"),
        ("rewrite: {uriRegexRewrite: {match: a}}", "7:32 error ISM1103"),
    ],
)
def test_rewrites_that_cannot_be_read(rewrite: str, found: str) -> None:
    assert route(rewrite).found == [found]


COPY = """\
apiVersion: v1
kind: Service
metadata: {name: copy, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: copy, namespace: shop}
spec: {host: copy, subsets: [{name: v1, labels: {version: v1}}]}
"""
HOST = "copy.shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("name: none", ()),
        ("mirror: {host: copy}", ((None, 100.0),)),
        ("mirror: {host: copy, port: {number: 80}, subset: v1}", (("v1", 100.0),)),
        ("mirror: {host: copy}\n  mirrorPercentage: {value: 0.5}", ((None, 0.5),)),
        ("mirror: {host: copy}\n  mirrorPercent: 20", ((None, 20.0),)),
        ("mirror: {host: copy}\n  mirrorPercentage: {value: 0}", ()),
        ("mirror: {host: copy}\n  mirrorPercentage: {}", ()),
        (
            "mirrors: [{destination: {host: copy}}, {destination: {host: copy, subset: v1}, percentage: {value: 7}}]",
            ((None, 100.0), ("v1", 7.0)),
        ),
        ("mirrors: [{destination: {host: copy}, percentage: {value: 0}}]", ()),
        ("mirrors: []", ()),
    ],
)
def test_mirrors(fields: str, expected: tuple[tuple[str | None, float], ...]) -> None:
    found = forward(fields, COPY)
    assert found.mirrors == tuple(Mirror(Destination(HOST, 80, subset), percent) for subset, percent in expected)
    assert found.targets == (*found.destinations, *(mirror.destination for mirror in found.mirrors))


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ("mirror: {host: cpoy}", "7:20 error IST0101"),
        ("mirror: {host: copy, subset: v2}", "7:34 error IST0101"),
        ("mirror: {host: copy, port: {number: 81}}", "7:41 error IST0101"),
        ("mirrors: [{destination: {host: cpoy}}]", "7:36 error IST0101"),
        ("mirrorPercent: 20", "7:5 warning ISM2151"),
        ("mirrorPercentage: {value: 20}", "7:5 warning ISM2151"),
        ("mirror: {host: copy}\n  mirrorPercent: 1\n  mirrorPercentage: {value: 20}", "8:5 warning ISM2151"),
    ],
)
def test_mirrors_told_of(fields: str, found: str) -> None:
    done = route(fields, TO_ORDERS, COPY)
    assert done.found == [found]
    assert done.mesh.routes


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ("mirror: {host: copy}\n  mirrors: []", "8:14 error ISM1106"),
        ("mirror: {host: copy}\n  mirrorPercent: 101", "8:20 error ISM1106"),
        ("mirror: {host: copy}\n  mirrorPercentage: {value: -1}", "8:31 error ISM1106"),
        ("mirror: {subset: v1}", "7:13 error ISM1103"),
        ("mirrors: [{percentage: {value: 1}}]", "7:15 error ISM1103"),
    ],
)
def test_mirrors_that_cannot_be_read(fields: str, found: str) -> None:
    assert route(fields, TO_ORDERS, COPY).found == [found]
