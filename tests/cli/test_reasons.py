from __future__ import annotations

import json

from isthmus.model import handshake
from isthmus.model.reason import REASONS
from tests.cli.running import Isthmus


def test_all_of_them(isthmus: Isthmus) -> None:
    ran = isthmus("reasons")
    assert (ran.code, ran.err) == (0, "")
    assert "  jwt-expired                  401   The token has expired." in ran.out
    listed = json.loads(isthmus("reasons", "-o", "json").out)
    assert [one["code"] for one in listed] == [one.code for one in (*REASONS, *handshake.REASONS)]


def test_one_of_them(isthmus: Isthmus) -> None:
    for written in ("not-allowed", "urn:isthmus:reason:not-allowed"):
        ran = isthmus("reasons", written)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("not-allowed: Nothing allows this request. (403)\n`allow_policies`")
    found = json.loads(isthmus("reasons", "tls-certificate-expired", "-o", "json").out)
    assert found["status"] is None
    assert set(found) == {"code", "group", "status", "about", "fix"}


def test_none_of_them(isthmus: Isthmus) -> None:
    ran = isthmus("reasons", "jwt-expird")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == 'there is no reason "jwt-expird" (did you mean "jwt-expired"?)\n'
    assert isthmus("reasons", "nonsense").err == 'there is no reason "nonsense" (`isthmus reasons` lists all)\n'
