from __future__ import annotations

import gzip
import io
import json
import tarfile

import pytest

from isthmus.decide.rego.bundle import MAX_BYTES, read_bundle
from isthmus.decide.rego.source import Module
from isthmus.errors import RegoBundleRefused
from tests.decide.rego.packing import ALLOW, Files, pack, users

POLICY = "package a\n"


def refusal(packed: bytes) -> str:
    with pytest.raises(RegoBundleRefused) as refused:
        read_bundle(packed)
    return str(refused.value)


def manifest(**fields: object) -> Files:
    return {".manifest": json.dumps(fields)}


def test_modules_data_and_manifest() -> None:
    files = {
        "/.manifest": json.dumps({"revision": "seven", "roots": ["shop", "people/alice"], "metadata": {"by": "us"}}),
        "/shop/orders/policy.rego": "# package other\npackage shop.orders\n",
        "./shop/data.json": '{"limit": 10}',
        "shop/orders/data.yaml": "open: yes",
        "people/alice/data.yml": "[1]",
        "README.md": "nothing to do with it",
    }
    bundle = read_bundle(pack(files))
    assert (bundle.revision, bundle.roots, bundle.signed) == ("seven", ("shop", "people/alice"), False)
    assert bundle.modules == (Module("shop/orders/policy.rego", "# package other\npackage shop.orders\n"),)
    assert bundle.data == {"shop": {"limit": 10, "orders": {"open": True}}, "people": {"alice": [1]}}
    policy = bundle.policy("shop/authz", "authz")
    assert (policy.name, policy.modules, policy.bundles) == ("shop/authz", bundle.modules, {"authz": "seven"})


def test_without_a_manifest_it_speaks_of_everything() -> None:
    bundle = read_bundle(pack({"policy.rego": ALLOW, "data.json": '{"users": ["alice"]}'}))
    assert (bundle.revision, bundle.roots, bundle.data) == ("", ("",), {"users": ["alice"]})


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"policy.rego": POLICY, "policy.wasm": b"\0asm"}, "policy.wasm: policies compiled to WebAssembly"),
        ({"policy.rego": POLICY, "plan.json": "{}"}, "compiled plans"),
        ({"patch.json": '{"data": []}'}, "delta bundles"),
        (manifest(wasm=[{"entrypoint": "a", "module": "policy.wasm"}]), "WebAssembly"),
        (manifest(rego_version=0), "only Rego v1"),
        (manifest(file_rego_versions={"/a.rego": 0}), "only Rego v1"),
        (manifest(revision=1), "not a manifest"),
        (manifest(roots="a"), "list of strings"),
        (manifest(root=["a"]), "'root'"),
        ({".manifest": "[]"}, "not a manifest"),
        ({".manifest": "{"}, "not JSON"),
        ({"a/.manifest": "{}"}, "at the top"),
        ({"data.json": "[1]"}, "an object is expected"),
        ({"data.json": "{"}, "data.json: not JSON"),
        ({"a/data.json": '{"b": 1}', "a/b/data.json": "{}"}, "in another data file"),
        ({"a.rego": b"package \xff"}, "not UTF-8"),
    ],
)
def test_what_no_bundle_may_hold(files: Files, reason: str) -> None:
    assert reason in refusal(pack(files))


@pytest.mark.parametrize(
    "name", ["../a.rego", "a/../../b.rego", "a//b.rego", "a/./b.rego", "..", "a\\b.rego", "a\nb.rego", "/", "a" * 1100]
)
def test_paths_that_lead_out_or_mislead(name: str) -> None:
    assert "not a path within" in refusal(pack({name: POLICY}))


def test_links_and_devices_are_refused() -> None:
    assert "links are not followed" in refusal(pack({"a.rego": POLICY}, links={"b.rego": "/etc/passwd"}))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        device = tarfile.TarInfo("data.json")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    assert "neither a file nor a folder" in refusal(packed.getvalue())


def test_a_file_that_is_there_twice() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("a.rego", "/a.rego"):
            archive.addfile(tarfile.TarInfo(name))
    assert "a.rego: twice" in refusal(packed.getvalue())


def test_what_is_no_archive() -> None:
    whole = pack(users("alice"))
    plain = gzip.decompress(whole)
    assert "not a gzipped tar" in refusal(b"")
    assert "not a gzipped tar" in refusal(plain)
    assert "not a gzipped tar" in refusal(whole[:-20])
    assert "not a gzipped tar" in refusal(gzip.compress(b"x" * 2000))
    assert "empty" in refusal(pack({}))


def test_a_damaged_archive_does_not_end_at_the_damage() -> None:
    """Python's reader takes a header that it cannot read for the end; modules behind it would silently be missing."""
    plain = bytearray(gzip.decompress(pack({"a.rego": POLICY, "deny.rego": POLICY})))
    plain[1024 + 148 : 1024 + 156] = b"77777777"
    assert "damaged" in refusal(gzip.compress(bytes(plain)))


def test_limits() -> None:
    assert "more than" in refusal(b"\0" * (MAX_BYTES + 1))
    assert "when unpacked" in refusal(gzip.compress(b"\0" * (129 << 20), 1))
    assert "entries" in refusal(pack({f"{n}.txt": "" for n in range(10_001)}))


@pytest.mark.parametrize("roots", [["a", "a"], ["", "a"], ["a/b", "a"], ["/a/", "a/b/c"]])
def test_roots_do_not_overlap(roots: list[str]) -> None:
    assert "overlap" in refusal(pack(manifest(roots=roots)))


@pytest.mark.parametrize(
    "module",
    [
        "package b",
        'package b["a"]',
        "# package a\npackage b",
        "package ab",
        "import rego.v1",
        "`package a`\npackage b",
        "package b # package a",
    ],
)
def test_modules_stay_within_the_roots(module: str) -> None:
    reason = refusal(pack({**manifest(roots=["a"]), "a/x.rego": module}))
    assert "is not within the bundle's roots" in reason or "no package" in reason


@pytest.mark.parametrize("module", ["package a", 'package a["b-c"].d', "\n# why\n\npackage  a . b\n", "package a.b.c"])
def test_packages_within_the_roots(module: str) -> None:
    assert read_bundle(pack({**manifest(roots=["a", "c"]), "elsewhere/x.rego": module})).roots == ("a", "c")


@pytest.mark.parametrize("files", [{"data.json": '{"b": 1}'}, {"a/data.json": '{"c": 1}'}, {"a/b2/data.json": "1"}])
def test_data_stays_within_the_roots(files: Files) -> None:
    assert "is not within the bundle's roots" in refusal(pack({**manifest(roots=["a/b"]), **files}))


def test_data_at_and_below_a_root() -> None:
    files = {"a/data.json": '{"b": 1}', "c/d/data.json": '{"x": {}}'}
    assert read_bundle(pack({**manifest(roots=["a/b", "c"]), **files})).data == {"a": {"b": 1}, "c": {"d": {"x": {}}}}
