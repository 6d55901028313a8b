from __future__ import annotations

import pytest

from isthmus.model.route import DirectResponse

from .route_manifest import route


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{status: 410}", DirectResponse(410)),
        ("{status: 200, body: {string: gone}}", DirectResponse(200, "gone")),
        ("{status: 200, body: {bytes: AP8=}}", DirectResponse(200, b"\x00\xff")),
        ("{status: 200, body: {}}", DirectResponse(200)),
        ("{status: 204}", DirectResponse(204)),
    ],
)
def test_answers(written: str, expected: DirectResponse) -> None:
    done = route(f"directResponse: {written}", "")
    assert done.found == []
    assert done.mesh.routes[0].routes[0].action == expected


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("{}", "7:21 error ISM1103"),
        ("{status: 100}", "7:30 error ISM1106"),
        ("{status: 600}", "7:30 error ISM1106"),
        ("{status: 200, body: gone}", "7:41 error ISM1102"),
        ("{status: 200, body: {string: a, bytes: AA==}}", "7:41 error ISM1106"),
        ("{status: 200, body: {bytes: a}}", "7:49 error ISM1106"),
        ("{status: 204, body: {string: a}}", "7:41 error ISM1106"),
    ],
)
def test_answers_that_cannot_be_read(written: str, found: str) -> None:
    assert route(f"directResponse: {written}", "").found == [found]


@pytest.mark.parametrize(("length", "found"), [(2**20, []), (2**20 + 1, ["7:41 error ISM1106"])])
def test_how_long_a_body_may_be(length: int, found: list[str]) -> None:
    assert route(f"directResponse: {{status: 200, body: {{string: {'x' * length}}}}}", "").found == found
