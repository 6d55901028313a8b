"""Durations as Istio takes them: at least a millisecond."""

from __future__ import annotations

from datetime import timedelta

from isthmus.config.decode import checked, duration


def _at_least_a_millisecond(value: timedelta) -> str | None:
    return "a duration must be at least 1ms" if value < timedelta(milliseconds=1) else None


positive_duration = checked(duration, _at_least_a_millisecond)
