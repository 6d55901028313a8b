from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.model.ocsp_question import OcspQuestion
from isthmus.model.revocation import ClientOcsp, OcspMode


@pytest.mark.parametrize("responder", [None, "http://ca.example/?a=%41"])
def test_what_is_written_is_read(responder: str | None) -> None:
    policy = ClientOcsp(OcspMode.BEST_EFFORT, responder, timedelta(seconds=2), timedelta(hours=1))
    question = OcspQuestion("credential-ca:shop/clients", policy)
    assert OcspQuestion.decode(question.encode()) == question
    assert "%" not in question.encode()


@pytest.mark.parametrize("text", ["", "!", "e30=", "W10=", "bnVsbA=="])
def test_anything_else_is_not(text: str) -> None:
    with pytest.raises(ValueError):
        OcspQuestion.decode(text)
