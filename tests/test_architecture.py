"""The shape of the source: who imports whom, who touches the machine, what is registered, and how long things are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath

import pytest

from isthmus.analyze import CHECKS
from isthmus.filters import FILTERS
from isthmus.filters.filter import Filter
from isthmus.kinds import KINDS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "isthmus"
TESTS = ROOT / "tests"

EVERYWHERE = {"diag", "errors", "latest", "__init__"}
IMPORTS: Mapping[str, set[str]] = {
    "envoy_api": set(),
    "state": set(),
    "keeping": {"state"},
    "fetching": set(),
    "answering": set(),
    "cel": {"model", "envoy_api"},
    "consumer": {"model", "state"},
    "decide": {"answering", "consumer", "fetching", "keeping", "model", "state", "envoy_api"},
    "limit": {"answering", "keeping", "model", "state", "envoy_api"},
    "model": set(),
    "config": {"state"},
    "filters": {"model", "envoy_api", "cel"},
    "kinds": {"config", "model", "filters", "cel"},
    "compile": {"config", "kinds", "model"},
    "analyze": {"config", "kinds", "model"},
    "xds": {"model", "filters", "envoy_api"},
    "ads": {"xds.snapshot", "envoy_api"},
    "identity": {"model", "state"},
    "jwks": {"fetching", "model", "state"},
    "revocation": {"fetching", "model", "state"},
    "handshake": {"model", "envoy_api"},
    "federation": {"fetching", "model"},
    "drift": {"model", "xds.snapshot", "xds.secret", "envoy_api"},
    "proxy": {
        "keeping",
        "identity",
        "xds.bootstrap",
        "xds.relay",
        "xds.secret",
        "model",
        "state",
        "envoy_api",
        "revocation",
    },
    "control": {
        *("ads", "compile", "config", "envoy_api", "handshake", "identity", "jwks", "kinds", "model", "state", "xds"),
        "revocation",
        "drift",
        # What is fetched and verified for those who decide.
        "decide.rego",
        # What the limit service is told is its own form.
        "limit.definition",
        # What is kept of a key, for the machines that ask.
        *("consumer.key", "consumer.record", "consumer.wire"),
        # The plan is what both sides agree on; places are names of files, not files.
        *("proxy.plan", "proxy.place"),
    },
    "api": set(),
    "serve": {
        "analyze",
        "handshake",
        "revocation",
        *("drift", "federation", "decide.rego", "decide.client.store", "consumer"),
        *("ads", "api", "compile", "config", "control", "identity", "jwks", "keeping", "model", "proxy", "state"),
    },
    "doctor": set(),
    "demo": {"api.client", "jwks", "state"},
    "cli": {
        *("serve", "api.client", "demo", "analyze", "compile", "config", "jwks", "kinds", "model", "proxy", "state"),
        # Of "compile", which does alone what the control plane does.
        *("control.offline", "xds", "envoy_api"),
        # Of "consumer", which works on the state whether a control plane runs or not.
        *("consumer", "control.last_good"),
        # Of "rego", and of "analyze", which asks the engine about every text.
        *("decide", "control.rego_finding"),
        "doctor",
        # Of "ca", which does on the state what it asks of a control plane.
        *("api.authority", "api.authority_client", "federation.own", "identity", "keeping"),
    },
    "__main__": {"cli"},
}
"""By room (package or module): the rooms, or single modules of them, that it may import beside EVERYWHERE."""
PROTOBUF = {"envoy_api", "identity", "proxy"}
"""Rooms that name protobuf itself; those that may import envoy_api use its messages."""
GRPC = {"ads", "identity", "proxy", "control", "serve", "handshake", "answering", "decide", "limit"}

SHELL = {
    "answering.py",
    "keeping.py",
    "fetching.py",
    "server.py",
    "watch.py",
    "load.py",
    "fetch.py",
    "store.py",
    "agent.py",
    "state.py",
}
SHELL_FOLDERS = {"proxy", "api", "demo", "serve", "cli"}
MACHINE = {
    *("fcntl", "http", "httpx", "mmap", "multiprocessing", "requests", "select", "selectors", "shutil", "signal"),
    *("socket", "ssl", "subprocess", "tempfile", "threading", "time", "uvicorn", "watchfiles"),
}
"""Modules of sockets, files, processes and clocks."""
PLAIN_OS = {"os.PathLike", "os.fspath", "os.sep", "os.path.basename", "os.path.dirname", "os.path.join"} | {
    "os.path",
    "os.path.normpath",
    "os.path.splitext",
}
"""What ``os`` knows of names alone."""
MACHINE_CALLS = {
    *("exists", "insecure_channel", "is_dir", "is_file", "iterdir", "mkdir", "read_bytes", "read_text", "rglob"),
    *("rmdir", "secure_channel", "touch", "unlink", "utcnow", "write_bytes", "write_text"),
    *("add_insecure_port", "add_secure_port", "create_subprocess_exec", "open_connection", "start_server"),
}
TOUCHES_THE_MACHINE: Mapping[str, str] = {
    "envoy_api/__init__.py": "reads its own data file, once",
    "envoy_api/scan.py": "writes that data file from the Envoy binary; run by hand",
    "analyze/tls_file.py": "asks whether files that manifests name can be read",
}

LONGEST_FUNCTION = 60
LONGEST_MODULE = 400
LONGER: Mapping[str, str] = {}
"""Functions (``file.py:name``) and modules that may be longer, each with the reason."""
BANNED = {"utils", "util", "common", "helper", "helpers", "manager", "managers", "misc"}

PARTS_OF_FILTERS: Mapping[str, str] = {
    "ca_peer": "closing peers whose certificate is a CA's",
    "filter": "what a filter is",
    "limit_action": "descriptors' entries, of limits here and by the limit service",
    "matcher_tree": "Envoy's matcher trees, for many rules and routes",
    "predicate": "predicates to RBAC policies",
    "rbac_term": "leaves of predicates to RBAC's own",
    "rbac_tree": "many rules as a tree of RBAC filters",
    "string_matcher": "string matches to Envoy's",
    "peer": "a network filter: it stands before every HTTP chain, not in it",
}
PARTS_OF_ANALYZE: Mapping[str, str] = {
    "check": "what a check is",
    "place": "where policies hold",
    "target": "what policies attach to",
}

TESTS_OF_MORE_THAN_A_MODULE: Mapping[str, str] = {
    "ads/test_model.py": "the stream against a model of Envoy, by property",
    "ads/test_real_envoy.py": "the server against real Envoy",
    "cli/test_bad_input.py": "every command, on what people get wrong",
    "cli/test_unreachable.py": "every command that asks a control plane",
    "demo/shop/test_services.py": "the three services, over HTTP",
    "demo/test_examples.py": "examples/",
    "filters/test_chain.py": "filters/__init__.py",
    "filters/test_real_rbac_model.py": "policies against their plain interpreter, with real Envoy as the judge",
    "jwks/test_real_key_set.py": "model/key_set.py, with real Envoy as the judge",
    "test_architecture.py": "the source as text",
    "test_fields.py": "the readers against the tests on real Envoy",
}


@cache
def modules() -> Mapping[str, ast.Module]:
    """Every file of the source by its path within the package."""
    files = sorted(SOURCE.rglob("*.py"))
    return {file.relative_to(SOURCE).as_posix(): ast.parse(file.read_text()) for file in files}


def room(path: str) -> str:
    return PurePosixPath(path).parts[0].removesuffix(".py")


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of modules; ``from isthmus import x`` is ``isthmus.x``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == "isthmus" or node.module.startswith("isthmus."):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def ours(tree: ast.Module) -> Iterator[str]:
    """Within the package: ``xds.snapshot.Built``; what is not a room is a name of the package itself."""
    for name in imported(tree):
        if name == "isthmus" or name.startswith("isthmus."):
            inner = name.removeprefix("isthmus").removeprefix(".")
            yield inner if inner.partition(".")[0] in IMPORTS.keys() | EVERYWHERE else "__init__"


def within(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def files_imported(path: str) -> set[str]:
    """The files of the package that a file of it imports; of a package, its ``__init__.py``."""
    found = set()
    for name in imported(modules()[path]):
        steps = name.split(".")[1:] if name.startswith("isthmus.") else []
        for length in range(len(steps), 0, -1):
            stem = "/".join(steps[:length])
            file = next((one for one in (f"{stem}.py", f"{stem}/__init__.py") if one in modules()), None)
            if file is not None:
                found.add(file)
                break
    return found - {path}


def test_nothing_imports_itself_by_way_of_others() -> None:
    """Peeled from the ground up: what imports only what is peeled goes; what stays is a circle, or stands on one."""
    above = {path: files_imported(path) for path in modules()}
    while ground := {path for path, wanted in above.items() if not wanted & above.keys()}:
        above = {path: wanted for path, wanted in above.items() if path not in ground}
    assert not above


def test_every_room_is_in_the_table() -> None:
    assert {room(path) for path in modules()} == IMPORTS.keys() | EVERYWHERE
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert [one for one in IMPORTS if f"`{one}/`" not in text and f"`{one}.py`" not in text] == ["__main__"]


@pytest.mark.parametrize("here", sorted(IMPORTS))
def test_a_room_imports_what_the_table_says(here: str) -> None:
    allowed = IMPORTS[here] | EVERYWHERE | {here}
    strange = {
        f"{path} imports {name}"
        for path, tree in modules().items()
        if room(path) == here
        for name in ours(tree)
        if not within(name, allowed)
    }
    assert not strange


@pytest.mark.parametrize("here", ["diag", "errors", "latest"])
def test_what_everybody_imports_imports_nothing_of_ours(here: str) -> None:
    assert not [name for name in ours(modules()[f"{here}.py"]) if not within(name, EVERYWHERE)]


@pytest.mark.parametrize(
    ("package", "rooms"), [("google", PROTOBUF), ("grpc", GRPC), ("envoy", {"envoy_api", "proxy"})]
)
def test_wire_formats_stay_at_the_edges(package: str, rooms: set[str]) -> None:
    strange = [path for path, tree in modules().items() if room(path) not in rooms and _names(tree, package)]
    assert not strange


def _names(tree: ast.Module, package: str) -> bool:
    return any(within(name, {package}) for name in imported(tree))


@pytest.mark.parametrize("path", sorted(modules()))
def test_sockets_files_processes_and_clocks_are_the_shells(path: str) -> None:
    if PurePosixPath(path).name in SHELL or room(path) in SHELL_FOLDERS or path in TOUCHES_THE_MACHINE:
        return
    assert sorted(set(_touches(modules()[path]))) == []


def _touches(tree: ast.Module) -> Iterator[str]:
    yield from (name for name in imported(tree) if within(name, MACHINE))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            written = ast.unparse(node)
            if written.startswith("os.") and written not in PLAIN_OS:
                yield written
            if written in ("datetime.now", "datetime.today", "date.today"):
                yield written
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id == "open":
                yield "open"
            if isinstance(called, ast.Attribute) and called.attr in MACHINE_CALLS:
                yield ast.unparse(called)


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "from time import monotonic",
        "import os\nos.environ['HOME']",
        "import os\nos.path.exists(name)",
        "open('x')",
        "Path('x').read_text()",
        "datetime.now(UTC)",
        "grpc.aio.insecure_channel(target)",
    ],
)
def test_a_touch_is_seen(source: str) -> None:
    assert list(_touches(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["import os\nos.path.join(a, b)", "now.isoformat()", "text.replace('a', 'b')", "await asyncio.sleep(1)"]
)
def test_names_and_values_are_no_touch(source: str) -> None:
    assert not list(_touches(ast.parse(source)))


def test_imports_are_told_by_their_room() -> None:
    source = "from isthmus import __version__\nfrom isthmus.xds.snapshot import Built\nimport isthmus.jwks.store, json"
    assert list(ours(ast.parse(source))) == ["__init__", "xds.snapshot.Built", "jwks.store"]
    assert within("xds.snapshot.Built", {"xds.snapshot"})
    assert not within("xds.snapshots", {"xds.snapshot"})


def test_the_exceptions_are_still_needed() -> None:
    assert all(set(_touches(modules()[path])) for path in TOUCHES_THE_MACHINE)
    assert LONGER.keys() <= {*lengths(), *modules()}
    assert all((TESTS / path).exists() for path in TESTS_OF_MORE_THAN_A_MODULE)
    assert all((SOURCE / "filters" / f"{name}.py").exists() for name in PARTS_OF_FILTERS)
    assert all((SOURCE / "analyze" / f"{name}.py").exists() for name in PARTS_OF_ANALYZE)


def beside(package: str) -> list[str]:
    """The names of the modules and packages directly in ``package``."""
    entries = (SOURCE / package).iterdir()
    return sorted(entry.stem for entry in entries if not entry.name.startswith("__"))


def test_every_kind_is_registered() -> None:
    known = [import_module(f"isthmus.kinds.{name}").KIND for name in beside("kinds") if name != "shape"]
    assert sorted(kind.name for kind in known) == sorted(kind.name for kind in KINDS)
    assert all(any(kind is one for one in KINDS) for kind in known)


def test_every_filter_is_registered() -> None:
    found = []
    for name in beside("filters"):
        own = [value for value in vars(import_module(f"isthmus.filters.{name}")).values() if isinstance(value, Filter)]
        assert bool(own) is not (name in PARTS_OF_FILTERS), f"filters/{name}.py has a filter, or is a part of some"
        found += own
    assert {one.name for one in found} == {one.name for one in FILTERS}
    assert all(any(one is registered for registered in FILTERS) for one in found)


def test_every_check_is_registered() -> None:
    known = [
        import_module(f"isthmus.analyze.{name}").CHECK for name in beside("analyze") if name not in PARTS_OF_ANALYZE
    ]
    assert sorted(check.name for check in known) == sorted(check.name for check in CHECKS)


@pytest.mark.parametrize("package", ["kinds", "analyze", "filters"])
def test_every_unit_has_a_test_beside_its_name(package: str) -> None:
    def tested(name: str) -> bool:
        folder = TESTS / package
        return (folder / name).is_dir() or any((folder / f"test_{kind}{name}.py").exists() for kind in ("", "real_"))

    contracts = ("filter", "shape")
    assert [name for name in beside(package) if name not in contracts and not tested(name)] == []


def test_tests_stand_where_their_modules_stand() -> None:
    strange = []
    for file in sorted(TESTS.rglob("test_*.py")):
        path = file.relative_to(TESTS)
        if path.parts[0] == "real" or path.as_posix() in TESTS_OF_MORE_THAN_A_MODULE:
            continue
        name = path.stem.removeprefix("test_").removeprefix("real_")
        folder = SOURCE / path.parent
        if not any((place / name).is_dir() or list(place.glob(f"{name}*.py")) for place in (folder, folder / "cli")):
            strange.append(path.as_posix())
    assert strange == []


def lengths() -> Iterator[str]:
    """Functions that are too long, as ``file.py:name``."""
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= LONGEST_FUNCTION:
                    yield f"{path}:{node.name}"


def test_functions_fit_a_screen() -> None:
    assert sorted(set(lengths()) - LONGER.keys()) == []


def test_modules_can_be_read_in_one_go() -> None:
    long = {path for path in modules() if len((SOURCE / path).read_text().splitlines()) > LONGEST_MODULE}
    assert sorted(long - LONGER.keys()) == []


def test_names_say_what_things_are() -> None:
    files = {path: re.split(r"[/_.]", path) for path in modules()}
    classes = {
        f"{path}:{node.name}": [word.lower() for word in re.findall(r"[A-Z][a-z]+", node.name)]
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    assert [name for name, words in (files | classes).items() if BANNED & set(words)] == []


def test_nothing_is_left_for_later() -> None:
    left = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError")
    assert [path for path in modules() if left.search((SOURCE / path).read_text())] == []
