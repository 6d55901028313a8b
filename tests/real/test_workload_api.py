"""The SPIFFE Workload API, asked by other people's clients: who gets which identity, and who gets none."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from spiffe import JwtBundleSet, JwtSource, WorkloadApiClient, X509Source
from spiffe._proto import workload_pb2, workload_pb2_grpc
from spiffe.svid.jwt_svid import JwtSvid

from tests.real import workload_probe
from tests.real.fields import enforces
from tests.real.servers import find_server
from tests.real.up import Up, eventually, isthmus

pytestmark = pytest.mark.real

DOMAIN = "spiffe://cluster.local/ns/probe/sa/"
UID, GID, NOBODY = 61001, 61002, 61003
UNIT = f"isthmus-test-{os.getpid()}.service"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")


def registration(name: str, selectors: str, more: str = "") -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: WorkloadRegistration
metadata: {{name: {name}, namespace: probe}}
spec: {{serviceAccount: {name}, selectors: {{{selectors}}}{more}}}
---
"""


def program(name: str, more: str = "") -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: {name}, namespace: probe}}
spec:
  serviceAccount: {name}
  command: [{sys.executable}, {workload_probe.__file__}, watch]
  {more}
---
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A running mesh, and copies of this Python by which programs are told apart."""

    up: Up
    public: str
    copy: Path
    marked: Path

    def ask(self, *words: str, python: str | Path = sys.executable, through: tuple[str, ...] = ()) -> Any:
        """What a probe of its own process is told."""
        argv = (*through, str(python), workload_probe.__file__, *words)
        if "--socket" not in words:
            argv += ("--socket", self.public)
        done = subprocess.run(argv, env=_python_anywhere(), capture_output=True, text=True, timeout=180, check=False)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def identities(self, *words: str, **options: Any) -> list[str] | str:
        """The names of the service accounts that a probe is given, or the error."""
        answer = self.ask("x509", *words, **options)
        if isinstance(answer, dict):
            return str(answer["error"])
        return [svid["spiffe_id"].removeprefix(DOMAIN) for svid in answer]

    @property
    def private(self) -> str:
        return f"unix://{(self.up.state / 'workload.sock').readlink()}"


def _python_anywhere() -> dict[str, str]:
    """The environment in which a copy of this Python finds its library, and ours."""
    places = [sysconfig.get_path("purelib"), str(Path(__file__).parents[2])]
    return {**os.environ, "PYTHONHOME": sys.base_prefix, "PYTHONPATH": os.pathsep.join(places)}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    python = Path(sys.executable).resolve()
    copy, marked = folder / "probe", folder / "marked"
    shutil.copy(python, copy)
    marked.write_bytes(python.read_bytes() + b"marked")
    marked.chmod(0o755)
    manifests = (
        program("isolated")
        + program("beside", "network: Host")
        + registration("tester", f"uid: {os.geteuid()}, path: {python}", ", ttl: 20s")
        + registration("by-uid", f"uid: {UID}", ", ttl: 2m, jwtTtl: 30s, jwtAudiences: [vault, bank], hint: inner")
        + registration("by-gid", f"gid: {GID}", ", hint: inner")
        + registration("elsewhere", f"uid: {UID}", ", node: elsewhere")
        + registration("by-path", f"path: {copy}")
        + registration("by-sha256", f"sha256: {hashlib.sha256(marked.read_bytes()).hexdigest()}")
        + registration("both", f"uid: {UID}, path: {copy}")
        + registration("by-unit", f"systemdUnit: {UNIT}")
    )
    # Other users must be able to reach it: pytest's folders are for one alone.
    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        Path(open_to_all).chmod(0o755)
        public = Path(open_to_all) / "api.sock"
        options = ("--workload-api-socket", str(public))
        with Up(folder, {"all.yaml": manifests}, *options) as up:
            eventually(public.exists, 60)
            yield Machine(up, f"unix://{public}", copy, marked)
        assert not public.exists(), "nothing is left"


def said(machine: Machine, name: str) -> Any:
    """The first answer that a program of the mesh got."""
    lines = [line for line in machine.up.output.splitlines() if line.startswith(f"[{name}] ")]
    return json.loads(lines[0].partition("] ")[2]) if lines else None


@pytest.mark.parametrize("name", ["isolated", "beside"])
def test_a_program_of_the_mesh_is_itself(machine: Machine, name: str) -> None:
    """Also one that sees nothing else of the mesh's sockets."""
    answer = eventually(lambda: said(machine, name), 60)
    # The second is that of the Python that it is run by.
    assert [svid["spiffe_id"] for svid in answer] == [DOMAIN + name, DOMAIN + "tester"]


def test_a_program_cannot_put_a_socket_of_its_own_in_the_place(machine: Machine) -> None:
    script = "import os; os.unlink(os.environ['SPIFFE_ENDPOINT_SOCKET'].removeprefix('unix://'))"
    options = ("--state", str(machine.up.state), "-n", "probe", "--network", "isolated")
    done = isthmus("run", *options, "--", sys.executable, "-c", script)
    if "no network of its own" in done.stderr:
        pytest.skip("this system allows no network of its own")
    assert "Read-only file system" in done.stderr
    assert (machine.up.state / "workload.sock").readlink().is_socket()


def test_a_command_of_the_mesh_is_itself(machine: Machine) -> None:
    script = (sys.executable, workload_probe.__file__, "x509")
    done = isthmus("run", "--state", str(machine.up.state), "-n", "probe", "--service-account", "guest", "--", *script)
    assert done.returncode == 0, done.stderr
    assert [svid["spiffe_id"] for svid in json.loads(done.stdout)] == [DOMAIN + "guest", DOMAIN + "tester"]


@needs_root
@enforces(
    "WorkloadRegistration.spec.serviceAccount",
    "WorkloadRegistration.spec.selectors.uid",
    "WorkloadRegistration.spec.selectors.gid",
    "WorkloadRegistration.spec.node",
)
def test_a_user_and_a_group(machine: Machine) -> None:
    assert machine.identities("--uid", str(UID), "--gid", str(NOBODY)) == ["by-uid"]
    assert machine.identities("--uid", str(NOBODY), "--gid", str(GID)) == ["by-gid"]
    assert machine.identities("--uid", str(NOBODY), "--gid", str(NOBODY)) == "PERMISSION_DENIED"
    # What is for another node is for nobody here.
    assert machine.identities("--uid", str(UID), "--gid", str(GID)) == ["by-uid", "by-gid"]


@needs_root
@enforces("WorkloadRegistration.spec.selectors.path", "WorkloadRegistration.spec.selectors.sha256")
def test_an_executable(machine: Machine) -> None:
    other = ("--uid", str(NOBODY), "--gid", str(NOBODY))
    assert machine.identities(*other, python=machine.copy) == ["by-path"]
    assert machine.identities(*other, python=machine.marked) == ["by-sha256"]
    assert machine.identities(*other) == "PERMISSION_DENIED"
    # All selectors of one registration must be true.
    mine = ("--uid", str(UID), "--gid", str(NOBODY))
    assert machine.identities(*mine, python=machine.copy) == ["by-uid", "by-path", "both"]


@needs_root
def test_a_path_in_a_mount_namespace_of_ones_own_proves_nothing(machine: Machine) -> None:
    script = f'mount --bind {Path(sys.executable).resolve()} {machine.copy} && exec "$0" "$@"'
    through = ("unshare", "--mount", "sh", "-c", script)
    other = ("--uid", str(NOBODY), "--gid", str(NOBODY))
    assert machine.identities(*other, python=machine.copy, through=through) == "PERMISSION_DENIED"


@needs_root
@enforces("WorkloadRegistration.spec.selectors.systemdUnit")
def test_a_unit_of_systemd(machine: Machine) -> None:
    hierarchy = Path("/sys/fs/cgroup/systemd")
    slice_ = (hierarchy if hierarchy.is_dir() else hierarchy.parent) / "system.slice"
    made = not slice_.exists()
    other = ("--uid", str(NOBODY), "--gid", str(NOBODY))
    try:
        (slice_ / UNIT).mkdir(parents=True)
    except OSError as refused:
        pytest.skip(f"no control groups can be made here: {refused}")
    try:
        assert machine.identities("--cgroup", str(slice_ / UNIT), *other) == ["by-unit"]
        # Below a unit somebody else gives the names.
        below = slice_ / "other.service" / UNIT
        below.mkdir(parents=True)
        assert machine.identities("--cgroup", str(below), *other) == "PERMISSION_DENIED"
        below.rmdir()
        below.parent.rmdir()
    finally:
        with contextlib.suppress(OSError):
            (slice_ / UNIT).rmdir()
            if made:
                slice_.rmdir()


@needs_root
@enforces("WorkloadRegistration.spec.ttl", "WorkloadRegistration.spec.hint")
def test_how_long_and_by_which_hint(machine: Machine) -> None:
    mine, theirs = machine.ask("x509", "--uid", str(UID), "--gid", str(GID))
    assert mine["seconds"] <= 120 + 60 < theirs["seconds"], "a certificate begins a little before it is made"
    assert (mine["hint"], theirs["hint"]) == ("inner", ""), "a hint is shown once"
    [theirs] = machine.ask("x509", "--uid", str(NOBODY), "--gid", str(GID))
    assert theirs["hint"] == "inner"


@needs_root
@enforces("WorkloadRegistration.spec.jwtTtl", "WorkloadRegistration.spec.jwtAudiences")
def test_jwt_svids(machine: Machine) -> None:
    mine = ("--uid", str(UID), "--gid", str(NOBODY))
    [found] = machine.ask("jwt", "--audience", "vault", *mine)
    assert (found["spiffe_id"], found["claims"]["sub"]) == (DOMAIN + "by-uid", DOMAIN + "by-uid")
    assert found["claims"]["aud"] == ["vault"]
    assert found["claims"]["exp"] - found["claims"]["iat"] <= 30
    assert machine.ask("jwt", "--audience", "vault", "--audience", "other", *mine)["error"] == "PERMISSION_DENIED"
    assert machine.ask("jwt", *mine)["error"] == "INVALID_ARGUMENT", "no audience"
    theirs = ("--uid", str(NOBODY), "--gid", str(GID))
    [found] = machine.ask("jwt", "--audience", "other", *theirs)
    assert 30 < found["claims"]["exp"] - found["claims"]["iat"] <= 300
    # Somebody else's identity is not to be had by asking for it.
    stolen = machine.ask("jwt", "--audience", "vault", "--spiffe-id", DOMAIN + "by-uid", *theirs)
    assert stolen["error"] == "PERMISSION_DENIED"
    nobody = machine.ask("jwt", "--audience", "vault", "--uid", str(NOBODY), "--gid", str(NOBODY))
    assert nobody["error"] == "PERMISSION_DENIED"


def test_a_token_is_proved_by_the_bundle(machine: Machine) -> None:
    with WorkloadApiClient(machine.private) as api:
        made = api.fetch_jwt_svid({"vault", "bank"}, timeout=30)
        assert str(made.spiffe_id) == DOMAIN + "tester"
        assert str(api.validate_jwt_svid(made.token, "bank", timeout=30).spiffe_id) == DOMAIN + "tester"
        bundles: JwtBundleSet = api.fetch_jwt_bundles(timeout=30)
        bundle = bundles.get_bundle_for_trust_domain(made.spiffe_id.trust_domain)
        assert bundle is not None
        assert JwtSvid.parse_and_validate(made.token, bundle, {"vault"}).spiffe_id == made.spiffe_id
    header, payload, signature = made.token.split(".")
    for wrong, audience in (
        (made.token, "somebody-else"),
        (f"{header}.{payload}.{signature[:-8]}AAAAAAAA", "vault"),
        (f"{header}.{payload}.", "vault"),
        ("not a token", "vault"),
    ):
        refused = machine.ask("validate", "--audience", audience, "--token", wrong, "--socket", machine.private)
        assert refused["error"] == "INVALID_ARGUMENT", refused


def test_sources_of_a_client_library_follow_rotations(machine: Machine) -> None:
    with X509Source(socket_path=machine.private, timeout_in_seconds=30) as source:
        first = source.get_x509_context().default_svid
        assert str(first.spiffe_id) == DOMAIN + "tester"
        assert source.get_bundle_for_trust_domain(first.spiffe_id.trust_domain) is not None

        def renewed() -> bool:
            return source.get_x509_context().default_svid.leaf.serial_number != first.leaf.serial_number

        # It lives twenty seconds, and is replaced after ten.
        assert eventually(renewed, 60)
    with JwtSource(socket_path=machine.private, timeout_in_seconds=30) as tokens:
        assert str(tokens.fetch_svid({"vault"}).spiffe_id) == DOMAIN + "tester"


def test_what_every_call_must_have(machine: Machine) -> None:
    with grpc.insecure_channel(machine.private) as channel:
        api = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            api.ValidateJWTSVID(workload_pb2.ValidateJWTSVIDRequest(audience="a", svid="b"), timeout=30)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        absent = channel.unary_unary("/SpiffeWorkloadAPI/FetchWITSVID")
        with pytest.raises(grpc.RpcError) as refused:
            absent(b"", timeout=30, metadata=(("workload.spiffe.io", "true"),))
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@needs_root
def test_an_edit_reaches_a_standing_stream(machine: Machine) -> None:
    """One identity more is sent at once; with the last one gone the stream ends."""
    with subprocess.Popen(
        (sys.executable, workload_probe.__file__, "watch", "--socket", machine.public, "--uid", "61010"),
        stdout=subprocess.PIPE,
        text=True,
        env=_python_anywhere(),
    ) as early:
        assert early.stdout is not None
        assert json.loads(early.stdout.readline())["error"] == "PERMISSION_DENIED"
    machine.up.write("more.yaml", registration("one", "uid: 61010"))
    assert eventually(lambda: machine.identities("--uid", "61010") == ["one"], 60)
    with subprocess.Popen(
        (sys.executable, workload_probe.__file__, "watch", "--socket", machine.public, "--uid", "61010"),
        stdout=subprocess.PIPE,
        text=True,
        env=_python_anywhere(),
    ) as watching:
        assert watching.stdout is not None
        assert len(json.loads(watching.stdout.readline())) == 1
        machine.up.write("more.yaml", registration("one", "uid: 61010") + registration("two", "uid: 61010"))
        assert len(json.loads(watching.stdout.readline())) == 2
        machine.up.remove("more.yaml")
        lines = [json.loads(line) for line in watching.stdout]
        assert lines[-1]["error"] == "PERMISSION_DENIED"


def test_svids_by_command(machine: Machine, tmp_path: Path) -> None:
    """``isthmus svid``, with openssl as the judge."""
    state = ("--state", str(machine.up.state))
    done = isthmus("svid", "x509", *state, "--write", str(tmp_path), "-o", "json")
    assert done.returncode == 0, done.stderr
    assert [one["spiffe_id"] for one in json.loads(done.stdout)] == [DOMAIN + "tester"]
    assert (tmp_path / "svid.0.key").stat().st_mode & 0o777 == 0o600
    openssl = str(find_server("openssl"))
    files = {name: str(tmp_path / name) for name in ("svid.0.pem", "svid.0.key", "bundle.0.pem")}
    verified = subprocess.run(
        (openssl, "verify", "-CAfile", files["bundle.0.pem"], "-untrusted", files["svid.0.pem"], files["svid.0.pem"]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    told = subprocess.run(
        (openssl, "x509", "-noout", "-ext", "subjectAltName", "-in", files["svid.0.pem"]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"URI:{DOMAIN}tester" in told.stdout
    token = isthmus("svid", "jwt", *state, "--audience", "vault")
    assert token.returncode == 0, token.stderr
    checked = machine.ask(
        "validate", "--audience", "vault", "--token", token.stdout.strip(), "--socket", machine.private
    )
    assert checked == {"spiffe_id": DOMAIN + "tester", "audience": ["vault"]}


def test_a_socket_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    place = tmp_path / "file"
    place.write_text("mine")
    options = ("--state", str(tmp_path / "state"), "--workload-api-socket", str(place))
    refused = isthmus("up", str(tmp_path / "manifests"), *options)
    assert refused.returncode == 1
    assert "a file that is not a socket stands there" in refused.stderr
    assert place.read_text() == "mine"
