"""outlierDetection: endpoints that fail are ejected, and return, at every level of a DestinationRule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.destination import Case, Level, Request, Server, at_every_level, clusters
from tests.real.traffic import Caller, Manifest, caller, dump
from tests.real.traffic_credentials import Authority, serving
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

_ONCE = {"retries": {"attempts": 0}}
_SOON = "100ms"
_NEVER = "1h"
_HALF = {"maxEjectionPercent": 50}
_EJECTED = "/failed_outlier_check"


class Moody:
    """Answers with ``status``, which a test changes."""

    def __init__(self, status: int) -> None:
        self.status = status

    def __call__(self, saw: Request) -> int:
        return self.status


class Servers:
    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.good = stack.enter_context(Server())
        self.bad = {status: stack.enter_context(Server(Moody(status))) for status in (429, 500, 503)}
        self.mending = Moody(500)
        self.patient = stack.enter_context(Server(self.mending))
        authority = Authority("outliers")
        self.roots = folder / "roots.pem"
        self.roots.write_bytes(authority.pem)
        stranger = Authority("stranger")
        self.secured = stack.enter_context(Server(tls=serving(folder, authority.certify("api.example.com"))))
        self.stranger = stack.enter_context(Server(tls=serving(folder, stranger.certify("api.example.com"))))


def cases(servers: Servers) -> dict[str, Case]:
    def two(name: str, other: Server | int, **detection: object) -> Case:
        port = other if isinstance(other, int) else other.port
        return Case(
            name,
            {"outlierDetection": {"interval": _SOON, "baseEjectionTime": _NEVER, **_HALF, **detection}},
            (servers.good.endpoint, {"port": port}),
            route=_ONCE,
        )

    split = {"splitExternalLocalOriginErrors": True, "consecutive5xxErrors": 0}
    tls: Manifest = {
        "tls": {"mode": "SIMPLE", "caCertificates": str(servers.roots), "subjectAltNames": ["api.example.com"]}
    }
    handshake = two("handshake", servers.stranger, **split, consecutiveLocalOriginFailures=2)
    found = [
        two("errors", servers.bad[500], consecutive5xxErrors=3),
        two("seed", servers.bad[500], consecutive5xxErrors=5, interval="10s", baseEjectionTime="30s"),
        two("gateway-errors", servers.bad[503], consecutive5xxErrors=0, consecutiveGatewayErrors=3),
        two("gateway-others", servers.bad[500], consecutive5xxErrors=0, consecutiveGatewayErrors=3),
        two("return", servers.patient, consecutive5xxErrors=3, baseEjectionTime=_SOON),
        two("seldom", servers.patient, consecutive5xxErrors=3, baseEjectionTime=_SOON, interval=_NEVER),
        two("nobody", servers.bad[500], consecutive5xxErrors=3, maxEjectionPercent=49),
        two("panic", servers.bad[500], consecutive5xxErrors=3, minHealthPercent=60),
        two("refused", free_port(), **split, consecutiveLocalOriginFailures=2),
        two("refused-not-split", free_port(), consecutive5xxErrors=0),
        two("codes", servers.bad[429], consecutive5xxErrors=3, outlierDetectionHttpErrorCodes=[429, 430]),
        two("other-codes", servers.bad[500], consecutive5xxErrors=3, outlierDetectionHttpErrorCodes=[429]),
        Case(
            "handshake",
            {**handshake.policy, **tls},
            (servers.secured.endpoint, servers.stranger.endpoint),
            route=_ONCE,
            levels=(Level.SERVICE,),
        ),
    ]
    return {case.name: case for case in found}


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outliers")


@pytest.fixture(scope="module")
def servers(stack: ExitStack, folder: Path) -> Servers:
    return Servers(stack, folder)


@pytest.fixture(scope="module")
def case(servers: Servers) -> dict[str, Case]:
    return cases(servers)


@pytest.fixture(scope="module")
def up(case: dict[str, Case], stack: ExitStack, folder: Path) -> Up:
    written = [manifest for one in case.values() for manifest in one.manifests()]
    return stack.enter_context(Up(folder, {"all.yaml": dump(caller("front", folder), *written)}))


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def statuses(front: Caller, url: str, count: int = 12) -> set[int]:
    return {front.status(url) for _ in range(count)}


def settles(up: Up, front: Caller, case: Case, level: Level) -> bool:
    """Whether one endpoint is ejected, and all that is answered is good from then on."""
    return bool(eventually(lambda: front.status(case.url(level)) and ejected(up, case.cluster(level)) == 1, 60)) and (
        statuses(front, case.url(level)) == {200}
    )


def ejected(up: Up, cluster: str) -> int:
    return sum(_EJECTED in values.get("health_flags", "") for values in clusters(up)[cluster].values())


def keeps(up: Up, front: Caller, url: str, cluster: str, bad: int) -> bool:
    """Whether the endpoint that fails is used on and on: far more failures than any count here."""
    answers = [front.status(url) for _ in range(40)]
    return set(answers) == {200, bad} and ejected(up, cluster) == 0


@at_every_level("outlierDetection.consecutive5xxErrors", "outlierDetection.maxEjectionPercent")
def test_errors_in_a_row_eject(up: Up, front: Caller, case: dict[str, Case], level: Level) -> None:
    other = case["errors"].url(level, ruled=False)
    assert settles(up, front, case["errors"], level)
    assert statuses(front, other, 60) == {200, 500}
    nobody = case["nobody"]
    assert keeps(up, front, nobody.url(level), nobody.cluster(level), 500), "49 % of two is none"


def test_five_in_a_row_for_half_a_minute(up: Up, front: Caller, case: dict[str, Case]) -> None:
    """Five failures, then the endpoint stays away for 30 s, and is looked for every 10 s.

    The thread that counts tells the others through the main one, which a busy machine may keep waiting: some requests
    more are on their way meanwhile.
    """
    seed = case["seed"]
    answers = [front.status(seed.url(Level.SERVICE)) for _ in range(200)]
    assert 5 <= answers.count(500) <= 25
    assert set(answers[100:]) == {200}
    assert ejected(up, seed.cluster(Level.SERVICE)) == 1


@at_every_level("outlierDetection.consecutiveGatewayErrors", "outlierDetection.consecutive5xxErrors")
def test_gateway_errors_are_502_503_and_504(up: Up, front: Caller, case: dict[str, Case], level: Level) -> None:
    assert settles(up, front, case["gateway-errors"], level)
    others = case["gateway-others"]
    assert keeps(up, front, others.url(level), others.cluster(level), 500)


@at_every_level("outlierDetection.baseEjectionTime", "outlierDetection.interval")
def test_who_is_ejected_returns(
    up: Up, front: Caller, case: dict[str, Case], servers: Servers, level: Level, request: pytest.FixtureRequest
) -> None:
    """After its time, at the next look; with looks an hour apart it stays away long after it is well again."""
    request.addfinalizer(lambda: setattr(servers.mending, "status", 500))
    soon, seldom = case["return"], case["seldom"]
    for one in (soon, seldom):
        eventually(lambda one=one: front.status(one.url(level)) and ejected(up, one.cluster(level)) == 1, 60)
    eventually(lambda: ejected(up, soon.cluster(level)) == 0, 60)
    servers.mending.status = 200
    assert served_by(front, soon.url(level), servers.patient.port)
    assert ejected(up, seldom.cluster(level)) == 1
    assert {front.get(seldom.url(level)).json()["port"] for _ in range(20)} == {servers.good.port}


def served_by(front: Caller, url: str, port: int) -> bool:
    return bool(eventually(lambda: front.get(url).json()["port"] == port, 60))


@at_every_level("outlierDetection.baseEjectionTime")
def test_not_before_its_time(up: Up, front: Caller, case: dict[str, Case], level: Level) -> None:
    """An hour is not over when others, ejected later for 0.1 s, are back."""
    assert settles(up, front, case["errors"], level)
    soon = case["return"]

    def has_ejected(count: int) -> bool:
        return bool(front.status(soon.url(level))) and ejected(up, soon.cluster(level)) == count

    eventually(lambda: has_ejected(1), 60)
    eventually(lambda: has_ejected(0), 60)
    assert ejected(up, case["errors"].cluster(level)) == 1


@at_every_level("outlierDetection.minHealthPercent")
def test_too_few_good_ones_are_worse_than_bad_ones(up: Up, front: Caller, case: dict[str, Case], level: Level) -> None:
    """With half of them ejected and 60 % asked for, all are used; by default (0 %) never."""
    panic = case["panic"]
    eventually(lambda: front.status(panic.url(level)) and ejected(up, panic.cluster(level)) == 1, 60)
    assert statuses(front, panic.url(level), 40) == {200, 500}
    assert settles(up, front, case["errors"], level)


@at_every_level("outlierDetection.splitExternalLocalOriginErrors", "outlierDetection.consecutiveLocalOriginFailures")
def test_connects_that_fail_are_counted_apart(up: Up, front: Caller, case: dict[str, Case], level: Level) -> None:
    """Answers with 5xx are not counted here; a port that is closed is, if it is told apart."""
    assert settles(up, front, case["refused"], level)
    whole = case["refused-not-split"]
    assert keeps(up, front, whole.url(level), whole.cluster(level), 503)


def test_so_are_handshakes(up: Up, front: Caller, case: dict[str, Case]) -> None:
    """One of two servers shows a certificate of another authority."""
    level = Level.SERVICE
    assert settles(up, front, case["handshake"], level)


@at_every_level("outlierDetection.outlierDetectionHttpErrorCodes")
def test_which_answers_are_errors(up: Up, front: Caller, case: dict[str, Case], level: Level) -> None:
    assert settles(up, front, case["codes"], level)
    others = case["other-codes"]
    assert keeps(up, front, others.url(level), others.cluster(level), 500)
