from __future__ import annotations

from collections.abc import Iterable

from isthmus.envoy_api import any_of, unpack
from isthmus.envoy_api.packages import tls_v3
from isthmus.proxy.on_demand import MOST_SPELLINGS, OnDemandSecrets
from isthmus.proxy.plan import PlannedCredential
from isthmus.proxy.sds_stream import ServedSecret

A = PlannedCredential("credential:shop/a", "1", hosts=("a.example.com", "b.example.com"), at_once=False)
C = PlannedCredential("credential:shop/c", "1", hosts=("c.example.com",), at_once=False)
EAGER = PlannedCredential("credential:shop/eager", "1")


def came(name: str, version: str = "1") -> ServedSecret:
    return ServedSecret(name, version, any_of(tls_v3.Secret(name=name)))


class News(list[str]):
    def __call__(self, names: Iterable[str]) -> None:
        self.extend(sorted(names))


def planned(*credentials: PlannedCredential) -> tuple[OnDemandSecrets, News]:
    news = News()
    found = OnDemandSecrets(news)
    found.plan(credentials)
    return found, news


def named(secret: ServedSecret | None) -> str | None:
    """What the secret calls itself within."""
    return None if secret is None else str(unpack(secret.packed).name)  # type: ignore[attr-defined]


def test_what_nobody_planned_is_not_known() -> None:
    secrets, _ = planned(A, EAGER)
    for name in ("d.example.com", "credential:shop/a", "credential:shop/eager", "default", "", "a.example.com."):
        assert secrets.ask(name) is None
        assert not secrets.knows(name)
        assert secrets.find(name) is None


def test_a_credential_is_wanted_when_a_host_of_it_is_asked_for() -> None:
    secrets, news = planned(A, C)
    assert secrets.wanted == {}
    assert secrets.ask("b.example.com") is A
    assert list(secrets.wanted) == [A.name]
    assert secrets.find("b.example.com") is None, "it is not there yet"
    secrets.give(came(A.name))
    assert news == ["b.example.com"]
    assert named(secrets.find("b.example.com")) == "b.example.com", "Envoy takes no other name than it asked for"
    secrets.ask("a.example.com")
    assert named(secrets.find("a.example.com")) == "a.example.com", "and what is there already, at once"
    assert secrets.find("c.example.com") is None


def test_a_renewed_one_is_news_for_who_asked() -> None:
    secrets, news = planned(A, C)
    secrets.ask("a.example.com")
    secrets.give(came(A.name))
    news.clear()
    secrets.give(came(A.name, "2"))
    found = secrets.find("a.example.com")
    assert news == ["a.example.com"]
    assert found is not None
    assert found.version == "2"
    secrets.give(came(EAGER.name))
    secrets.give(came("default"))
    assert news == ["a.example.com"], "others are not its business"


def test_a_host_that_leaves_the_plan_is_gone() -> None:
    secrets, news = planned(A, C)
    for name in ("a.example.com", "A.example.com", "b.example.com"):
        secrets.ask(name)
    secrets.give(came(A.name))
    news.clear()
    secrets.plan([PlannedCredential(A.name, "1", hosts=("b.example.com",), at_once=False)])
    assert news == ["A.example.com", "a.example.com"]
    assert not secrets.knows("a.example.com")
    assert not secrets.knows("A.example.com")
    assert secrets.find("a.example.com") is None
    assert named(secrets.find("b.example.com")) == "b.example.com"


def test_a_host_that_moves_to_another_certificate_waits_for_it() -> None:
    """Envoy keeps the one that it has meanwhile."""
    secrets, news = planned(A, C)
    secrets.ask("a.example.com")
    secrets.give(came(A.name))
    news.clear()
    secrets.plan([PlannedCredential(C.name, "1", hosts=("a.example.com",), at_once=False)])
    assert news == ["a.example.com"]
    assert secrets.knows("a.example.com")
    assert secrets.find("a.example.com") is None
    assert list(secrets.wanted) == [C.name]
    secrets.give(came(C.name, "c"))
    found = secrets.find("a.example.com")
    assert found is not None
    assert found.version == "c"


def spelt(number: int) -> str:
    return "".join(letter.upper() if number >> at & 1 else letter for at, letter in enumerate("aexamplecom"))


def test_spellings_of_a_host_are_served_a_few_at_a_time() -> None:
    one = PlannedCredential("credential:shop/x", "1", hosts=("aexamplecom",), at_once=False)
    secrets, news = planned(one)
    secrets.ask("aexamplecom")
    secrets.give(came(one.name))
    news.clear()
    spellings = [spelt(number) for number in range(1, MOST_SPELLINGS + 2)]
    for name in spellings[:-1]:
        secrets.ask(name)
        assert named(secrets.find(name)) == name
    secrets.ask(spellings[0])
    assert news == []
    secrets.ask(spellings[-1])
    assert news == [spellings[1]], "the one that was asked for longest ago"
    assert not secrets.knows(spellings[1])
    assert secrets.knows(spellings[0])
    assert secrets.knows("aexamplecom"), "the name itself stays"
