from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from isthmus.cli.publish import read_svid_ttl
from isthmus.cli.serve import SEVERAL_TTL
from isthmus.proxy.credential import renewal
from tests.cli.running import Isthmus


def test_with_other_machines_a_certificate_outlasts_an_hour_without_a_control_plane() -> None:
    came = datetime(2026, 1, 1, tzinfo=UTC)
    ends = came + read_svid_ttl(SEVERAL_TTL)
    chance = random.Random(1)
    assert min(ends - renewal(came, ends, chance) for _ in range(10_000)) > timedelta(hours=1, minutes=20)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--listen", "15012"), "is not an IP address with a port"),
        (("--listen", "plane:15012"), "is not an IP address with a port"),
        (("--listen", "10.0.0.1:65535"), "a port is 1 to 65534"),
        (("--listen", "10.0.0.1:15012", "--enrol-listen", "x"), "is not an IP address with a port"),
        (("--node-grace", "soon"), '"soon" is not a duration'),
    ],
)
def test_wrong_usage(isthmus: Isthmus, options: tuple[str, ...], said: str) -> None:
    ran = isthmus("serve", "shop", *options)
    assert ran.code == 2
    assert said in ran.said
