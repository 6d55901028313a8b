from __future__ import annotations

from dataclasses import replace

from isthmus.control.rego_finding import rego_findings, rego_texts
from isthmus.diag import Origin, Ref, Source
from isthmus.model.attachment import Attachment
from isthmus.model.mesh import Mesh, Policies
from isthmus.model.rego import RegoModule, RegoPolicy

ORIGIN = Origin(Ref("RegoPolicy", "shop", "authz"), Source("authz.yaml", 3, 1))
POLICY = RegoPolicy("authz", "shop", Attachment(), ORIGIN, modules=(RegoModule("shop/authz.rego", "package p"),))
MESH = Mesh(policies=Policies(rego=(POLICY, replace(POLICY, name="bundled", modules=()))))


def test_texts_are_asked_about_once() -> None:
    (text,) = rego_texts(MESH)
    assert (text.policy, text.path, text.source.modules[0].text) == ("shop/authz", "envoy/authz/allow", "package p")


def test_a_problem_is_told_at_its_policy() -> None:
    (text,) = rego_texts(MESH)
    assert rego_findings(MESH, {text: None}) == ()
    (found,) = rego_findings(MESH, {text: "authz.rego:3: the engine has no function http.send"})
    assert (found.code.id, found.source.line) == ("ISM7040", 3)
    assert found.message.startswith("authz.rego:3: the engine has no function http.send: all that the policy is about")
