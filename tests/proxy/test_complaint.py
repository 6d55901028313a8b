"""What decision processes complain of reaches the user, and a flood of it does not."""

from __future__ import annotations

from pathlib import Path

from isthmus.proxy.complaint import AT_ONCE, SECONDS, Complaints

_AT = b"2026-11-21 21:16:31,689"


def test_warnings_and_errors_in_pieces_of_any_size() -> None:
    said: list[str] = []
    complaints = Complaints(said.append, Path("credentials-0.log"))
    text = (
        b"Traceback (most recent call last):\n"
        + (_AT + b" ERROR no API key can be checked: Permission denied\n")
        + b"E0000 grpc says something\n"
        + (_AT + b" INFO nobody asked\n")
        + (_AT + b" WARNING API keys are checked again\n")
        + (_AT + b" ERROR half a")
    )
    for at in range(len(text)):
        complaints(text[at : at + 1])
    assert said == ["no API key can be checked: Permission denied", "API keys are checked again"]


def test_a_flood_is_cut_and_told_of_once() -> None:
    said: list[str] = []
    now = [0.0]
    complaints = Complaints(said.append, Path("limits-0.log"), lambda: now[0])
    for _ in range(3 * AT_ONCE):
        complaints(_AT + b" WARNING again\n")
    assert said == ["again"] * AT_ONCE + ["more of that is in limits-0.log"]
    now[0] += SECONDS
    complaints(_AT + b" WARNING later\n")
    assert said[-1] == "later"
