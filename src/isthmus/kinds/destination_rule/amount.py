"""Numbers and times with the limits that Envoy or the operating system sets."""

from __future__ import annotations

from datetime import timedelta

from isthmus.config.decode import Reader, checked, duration, integer, number


def whole(least: int, most: int = 2**31 - 1, why: str = "") -> Reader[int]:
    """An integer from ``least`` to ``most``; ``why`` is told of one below."""

    def problem(value: int) -> str | None:
        if value < least:
            return f"{value} is too small: at least {least}" + (f" ({why})" if why else "")
        return f"{value} is too large: at most {most}" if value > most else None

    return checked(integer, problem)


LIMIT = whole(1, why="zero would mean no limit at all in Istio: leave the field out for that")
PERCENT = whole(0, 100)


def _whole_seconds(value: timedelta) -> str | None:
    good = value >= timedelta(seconds=1) and not value.microseconds
    return None if good else "TCP keepalive counts in whole seconds, at least 1s"


seconds = checked(duration, _whole_seconds)


def _zero_or_more(value: timedelta) -> str | None:
    good = not value or value >= timedelta(milliseconds=1)
    return None if good else "a duration must be at least 1ms, or 0s"


duration_or_zero = checked(duration, _zero_or_more)


def decimal(least: float, most: float = float("inf")) -> Reader[float]:
    """A number from ``least`` to ``most``."""

    def problem(value: float) -> str | None:
        if value < least:
            return f"{value:g} is too small: at least {least:g}"
        return f"{value:g} is too large: at most {most:g}" if value > most else None

    return checked(number, problem)
