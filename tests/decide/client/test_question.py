from __future__ import annotations

from isthmus.decide.client.question import Question
from isthmus.model.client_authentication import Accepted


def test_cookies() -> None:
    asked = Question(Accepted(), {"cookie": ("a=1;b = 2 ;; c", '=x; d="4"')})
    assert list(asked.cookies()) == [("a", "1"), ("b", "2"), ("d", '"4"')]


def test_no_repr_shows_a_credential() -> None:
    asked = Question(Accepted(), {"x-key": ("hunter2",)}, "/?k=hunter2", "hunter2", {"sub": "hunter2"})
    assert "hunter2" not in repr(asked)
    assert asked.values("x-key") == ("hunter2",)
    assert asked.values("other") == ()
