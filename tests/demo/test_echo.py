from __future__ import annotations

import httpx

from tests.demo.running import Program


def test_says_what_arrived_and_keeps_tokens_to_itself() -> None:
    with Program("isthmus.demo.echo", NAME="me") as program:
        headers = {"x-a": "b", "authorization": "Bearer secret"}
        answer = httpx.post(f"{program.url}/some/path?q=1", headers=headers, trust_env=False)
    body = answer.json()
    assert (body["name"], body["method"], body["path"]) == ("me", "POST", "/some/path")
    assert body["headers"]["x-a"] == "b"
    assert "secret" not in answer.text
