from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.config.load import Loaded, Loader, is_manifest, load
from isthmus.diag import Report, Severity
from isthmus.state import StateDir

from .writing import service, shown


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(name: str, *documents: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(documents))
    return path


def names(loaded: Loaded) -> list[str]:
    return [document.ref.name for document in loaded.documents]


def told(report: Report) -> list[str]:
    return [f"{found.source.file}:{line}" for found, line in zip(report, shown(report), strict=True)]


def test_order_is_that_of_the_arguments_then_of_the_paths_then_of_the_text() -> None:
    put("z.yaml", service("z"))
    put("f/b.yml", service("b1"), service("b2"))
    put("f/a/y.json", '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "y"}}')
    put("f/c.YAML", service("c"))
    loaded = load(["z.yaml", "f"])
    assert names(loaded) == ["z", "y", "b1", "b2", "c"]
    assert not len(loaded.report)


def test_files_are_named_as_the_user_would(tmp_path: Path) -> None:
    put("f/a.yaml", service("a"))
    put("b.yaml", service("b"))
    assert [d.source.file for d in load(["./b.yaml", "f/"]).documents] == ["./b.yaml", "f/a.yaml"]
    assert [d.source.file for d in load(["."]).documents] == ["b.yaml", "f/a.yaml"]
    assert [d.source.file for d in load([tmp_path]).documents] == [f"{tmp_path}/b.yaml", f"{tmp_path}/f/a.yaml"]


def test_hidden_and_backup_files_and_others_do_not_count() -> None:
    for name in (".a.yaml", ".git/a.yaml", "a.yaml~", "#a.yaml#", "a~.yaml", "a.txt", "a.yaml.swp", "..data/a.yaml"):
        put(f"f/{name}", service("hidden"))
    put("f/good.yaml", service("good"))
    assert names(load(["f"])) == ["good"]
    assert not is_manifest("#a.yaml")


def test_a_state_directory_among_the_manifests_does_not_count() -> None:
    put("f/good.yaml", service("good"))
    StateDir.at("f/state").open().write_private("ports.json", b"[]")
    loaded = load(["f"])
    assert names(loaded) == ["good"]
    assert not len(loaded.report)


def test_a_named_file_may_be_called_anything() -> None:
    put(".hidden.conf", service("a"))
    assert names(load([".hidden.conf"])) == ["a"]


def test_what_is_reached_twice_is_read_once() -> None:
    put("f/a.yaml", service("a"))
    os.symlink("a.yaml", "f/b.yaml")
    os.symlink("..", "f/up")
    loaded = load(["f/a.yaml", "f", "./f/a.yaml"])
    assert names(loaded) == ["a"]
    assert not len(loaded.report)


def test_standard_input() -> None:
    put("a.yaml", service("a"))
    loader = Loader(stdin=io.BytesIO(f"{service('x')}---\n{service('X')}".encode()))
    for _ in range(2):
        loaded = loader.load(["-", "a.yaml", "-"])
        assert names(loaded) == ["x", "a"]
        assert loaded.documents[0].source.file == "<stdin>"
        assert told(loaded.report)[0].startswith("<stdin>:11:9 ISM1005")
        assert loaded.unsure == {"<stdin>"}


def test_the_process_s_own_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(service("x").encode())))
    assert names(load(["-"])) == ["x"]


def test_a_pipe_is_read_once() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_text, args=(service("a"),))
    writer.start()
    loader = Loader()
    assert names(loader.load(["pipe"])) == ["a"]
    writer.join()
    assert names(loader.load(["pipe"])) == ["a"]


def test_a_list_in_json() -> None:
    put(
        "l.json",
        '{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}]}',
    )
    assert names(load(["l.json"])) == ["a"]


def test_the_default_namespace_can_be_given() -> None:
    put("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n")
    assert load(["a.yaml"], namespace="shop").documents[0].ref.namespace == "shop"


def test_a_folder_without_manifests_is_a_warning() -> None:
    Path("empty/.git").mkdir(parents=True)
    loaded = load(["empty"])
    assert told(loaded.report) == ["empty:1:1 ISM1007 no manifest (*.yaml, *.yml, *.json) in this folder"]
    assert loaded.report.errors == ()


def test_a_path_that_does_not_exist() -> None:
    put("a.yaml", service("a"))
    loaded = load(["gone.yaml", "a.yaml"])
    assert told(loaded.report) == ["gone.yaml:1:1 ISM1008 no such file or folder"]
    assert names(loaded) == ["a"]
    assert loaded.unsure == frozenset({"gone.yaml"})


def test_a_link_that_leads_nowhere_is_told() -> None:
    put("f/a.yaml", service("a"))
    os.symlink("nowhere", "f/b.yaml")
    os.symlink("loop", "f/loop")
    loaded = load(["f"])
    assert told(loaded.report) == ["f/b.yaml:1:1 ISM1009 cannot be read: No such file or directory"]
    assert loaded.unsure == {"f/b.yaml"}


@pytest.fixture
def locked() -> Iterator[Path]:
    if os.geteuid() == 0:
        pytest.skip("the superuser reads everything")
    path = put("f/locked/a.yaml", service("a"))
    yield path
    path.parent.chmod(0o700)


def test_an_unreadable_file_and_folder(locked: Path) -> None:
    locked.chmod(0)
    loaded = load(["f"])
    assert told(loaded.report) == ["f/locked/a.yaml:1:1 ISM1009 cannot be read: Permission denied"]
    locked.parent.chmod(0)
    loaded = load(["f"])
    assert told(loaded.report) == ["f/locked:1:1 ISM1009 cannot be read: Permission denied"]
    assert loaded.unsure == {"f/locked"}


def test_a_file_that_is_not_utf8() -> None:
    Path("a.yaml").write_bytes("a: é\nb: ".encode() + b"\xff\n")
    loaded = load(["a.yaml"])
    assert told(loaded.report) == ["a.yaml:2:4 ISM1014 the file is not UTF-8 text (byte 0xff)"]
    assert loaded.unsure == {"a.yaml"}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    Path("a.yaml").write_bytes(b"\xef\xbb\xbf" + service("a").encode())
    assert load(["a.yaml"]).documents[0].source.column == 1


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_file_is_a_warning(text: str) -> None:
    put("a.yaml", text)
    loaded = load(["a.yaml"])
    assert told(loaded.report) == [
        "a.yaml:1:1 ISM1010 the file is empty; while watching, what it gave before stays in force"
    ]
    assert [found.severity for found in loaded.report] == [Severity.WARNING]
    assert loaded.unsure == {"a.yaml"}


def test_a_file_of_comments_is_sure_to_hold_nothing() -> None:
    put("a.yaml", "# nothing any more\n---\n")
    assert load(["a.yaml"]) == Loaded((), Report())


def test_a_document_that_does_not_parse_spares_the_others() -> None:
    put("a.yaml", service("a"), "kind: AuthorizationPolicy\nmetadata:\n\tname: deny\n", service("b"))
    loaded = load(["a.yaml"])
    assert names(loaded) == ["a", "b"]
    assert told(loaded.report) == ["a.yaml:10:1 ISM1002 a tab is used for indentation; YAML takes only spaces"]
    assert loaded.unsure == {"a.yaml"}
    (broken,) = loaded.broken
    assert (broken.kind, broken.namespace, broken.name, broken.root) == ("AuthorizationPolicy", "default", "deny", None)
    assert str(broken.source) == "a.yaml:8:1"


def test_the_same_resource_in_two_files() -> None:
    put("a.yaml", service("x", "first"))
    put("b.yaml", service("x", "second"))
    loaded = load(["b.yaml", "a.yaml"])
    assert [document.labels["note"] for document in loaded.documents] == ["second"]
    assert told(loaded.report) == [
        "a.yaml:1:1 ISM1006 Service/shop/x is given already at b.yaml:1:1; this one is not used"
    ]
    assert loaded.unsure == frozenset()


def test_unchanged_documents_are_the_same_objects() -> None:
    put("a.yaml", service("a"), service("b"), service("c"))
    put("d.yaml", service("d"))
    loader = Loader()
    before = loader.load(["."])
    assert loader.load(["."]) == before
    put("a.yaml", service("a"), service("b", "new"), service("c"))
    after = loader.load(["."])
    assert [x is y for x, y in zip(before.documents, after.documents, strict=True)] == [True, False, True, True]
    assert after.documents[1].labels == {"note": "new"}


def test_moved_documents_have_their_new_places() -> None:
    put("a.yaml", service("a"), service("b"))
    loader = Loader()
    loader.load(["a.yaml"])
    put("a.yaml", "# one line more\n" + service("a"), service("b"))
    assert [d.source.line for d in loader.load(["a.yaml"]).documents] == [2, 9]


def test_faults_are_told_again_by_every_load_until_mended() -> None:
    put("a.yaml", service("A"))
    loader = Loader()
    assert told(loader.load(["."]).report) == told(loader.load(["."]).report) != []
    put("a.yaml", service("a"))
    assert told(loader.load(["."]).report) == []


def test_a_rewrite_of_the_same_size_right_after_a_read_is_seen() -> None:
    loader = Loader()
    for note in "abcdefghij" * 5:
        put("a.yaml", service("a", note))
        assert loader.load(["a.yaml"]).documents[0].labels["note"] == note


def test_a_change_is_seen_though_size_and_time_were_set_back() -> None:
    path = put("a.yaml", service("a", "1"))
    os.utime(path, (1, 1))
    loader = Loader()
    loader.load(["a.yaml"])
    put("a.yaml", service("a", "2"))
    os.utime(path, (1, 1))
    assert loader.load(["a.yaml"]).documents[0].labels["note"] == "2"


def test_an_old_unchanged_file_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    really = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        opened.append(path.name)
        return really(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    put("a.yaml", service("a"))
    put("b.yaml", service("b"))
    loader = Loader()
    time.sleep(0.06)
    loader.load(["."])
    put("b.yaml", service("b", "new"))
    assert names(loader.load(["."])) == ["a", "b"]
    assert opened == ["a.yaml", "b.yaml", "b.yaml"]
