from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.config.decode import Unreadable
from isthmus.config.node import Node
from isthmus.diag import Report, Source
from isthmus.kinds.shape.duration import positive_duration


def test_a_millisecond_is_the_least() -> None:
    assert positive_duration.read(Node("1ms", Source("test", 1, 1)), Report()) == timedelta(milliseconds=1)


@pytest.mark.parametrize("written", ["0s", "999us", "5"])
def test_less_is_refused(written: str) -> None:
    report = Report()
    with pytest.raises(Unreadable):
        positive_duration.read(Node(written, Source("test", 1, 1)), report)
    assert [found.code.id for found in report] == ["ISM1106"]
