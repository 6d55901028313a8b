from __future__ import annotations

import re

import pytest
import yaml

from isthmus.demo.render import manifests, render, shipped

URL = "http://127.0.0.1:12345"


def test_all_names_are_filled_in() -> None:
    rendered = manifests(URL, 12345)
    assert rendered.keys() == shipped().keys()
    for name, text in rendered.items():
        assert "${" not in re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE), name
    assert f"issuer: {URL}\n" in "".join(rendered.values()).replace(" # the keys", "\n#")


def test_unknown_name_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError):
        render("${IDP_ULR}", {"IDP_URL": URL})


def test_a_workloads_own_names_stay() -> None:
    assert render("$(PYTHON) ${IDP_URL} $$ $HOME", {"IDP_URL": URL}) == f"$(PYTHON) {URL} $$ $HOME"


def test_what_the_manifests_hold() -> None:
    documents = [found for text in manifests(URL, 12345).values() for found in yaml.safe_load_all(text)]
    kinds = {document["kind"] for document in documents}
    assert kinds == {
        "Namespace",
        "ServiceAccount",
        "Service",
        "LocalWorkload",
        "Gateway",
        "VirtualService",
        "PeerAuthentication",
        "RequestAuthentication",
        "AuthorizationPolicy",
    }
    issuers = {
        rule["issuer"]
        for document in documents
        if document["kind"] == "RequestAuthentication"
        for rule in document["spec"]["jwtRules"]
    }
    assert issuers == {URL}
    listening = next(
        d for d in documents if d["metadata"]["name"] == "identity-provider" and d["kind"] == "LocalWorkload"
    )
    assert listening["spec"]["ports"][0]["listen"] == 12345
