"""Why a control plane of another machine is not reached, in words that say what to do. Pure."""

from __future__ import annotations

from datetime import datetime

_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
_CLOCK = ("not yet valid", "has expired")
_REFUSED = "Failed to connect to remote host: "


def is_clock(failure: str) -> bool:
    """Whether a certificate was refused (OpenSSL's or gRPC's words) for the time that it is good for."""
    return _CERTIFICATE in failure and any(words in failure for words in _CLOCK)


def ask_the_clock(now: datetime) -> str:
    return f"its certificate is not valid at this machine's time, {now:%Y-%m-%d %H:%M} UTC: is the clock right?"


def unreached(code: str, details: str, now: datetime, *, runs: bool) -> str:
    """``code`` and ``details``: gRPC's. ``runs``: whether there is something here that goes on."""
    meanwhile = "what runs goes on as it is" if runs else "nothing runs here until it is"
    if is_clock(details):
        return f"not reached, {meanwhile}: {ask_the_clock(now)}"
    if _CERTIFICATE in details:
        return (
            f"who answers there is not the control plane that this node joined, {meanwhile}: if it was made anew, this"
            " machine needs a new join token (`isthmus node token`, where it runs)"
        )
    if "missing selected ALPN" in details:
        return f"not reached, {meanwhile}: another port answers there than that of `isthmus serve --listen`"
    _, refused, why = details.rpartition(_REFUSED)
    return f"not reached, {meanwhile}: {why if refused else f'{code}: {details}'}"
