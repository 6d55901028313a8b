"""Everything that can be changed is changed under load, with new connections and without retries: nothing fails."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.real.changing import (
    HOST,
    HTTP_SERVER,
    HTTPS_SERVER,
    ISSUER,
    Changing,
    changing,
    gateway,
    routes,
    tokens,
)
from tests.real.load import Load
from tests.real.manifests import service, workload_entry
from tests.real.up import development_jwks, eventually, isthmus

pytestmark = [pytest.mark.real, pytest.mark.alone]

_LONG = 90.0
OWN = "own.example.com"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    folder = tmp_path_factory.mktemp("load")
    assert isthmus("token", "--jwks", "--state", str(folder / "state")).returncode == 0
    jwks = development_jwks(folder / "state", folder / "jwks.json")
    with changing(folder, "--jwks", f"{ISSUER}={jwks}", extra={"edge-tls.yaml": credential()}) as running:
        yield running


@pytest.fixture(autouse=True)
def as_it_was(mesh: Changing) -> None:
    """One endpoint, one route, two servers."""
    mesh.up.write("gateway.yaml", gateway())
    mesh.up.write("tokens.yaml", tokens())
    mesh.up.write("routes.yaml", routes("0"))
    mesh.endpoints(1)
    eventually(lambda: len(mesh.proxies()) == 2 and mesh.in_sync() and mesh.edit() == "0", seconds=_LONG)


def credential() -> str:
    """A Secret with a new certificate and key for the gateway."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    data = {"tls.crt": chain, "tls.key": private}
    about = {"name": "edge-tls", "namespace": "shop"}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": data})


def report(what: str, load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{what}: {load.summary()}, {load.told_to_close} told to close")


def test_sixty_changes_of_routes_endpoints_and_policies(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    with mesh.load(connections=16) as load:
        for number in range(60):
            mesh.change(number, seconds=_LONG)
    report("60 changes", load, capsys)
    assert load.failures == []
    assert load.opened > 20
    assert mesh.other.answered > 0, "the second endpoint was used"


def test_an_endpoint_that_moves_is_never_missed(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    """Its port, its name (another sidecar takes over), and both back; with answers that take their time."""
    app, other = mesh.app, mesh.other
    with mesh.load() as load, mesh.load(headers="x-delay: 0.3\r\n", rate=20) as slow:
        for name, backend in (("app-1", other), ("app-9", other), ("app-9", app), ("app-1", app)):
            moved = workload_entry(name, "shop", "app", backend.port, account="app")
            seen = backend.answered
            mesh.up.write("app.yaml", service("app", "shop") + "---\n" + moved)
            eventually(lambda seen=seen, backend=backend: backend.answered > seen + 20, seconds=_LONG)
            eventually(lambda name=name: _only(mesh, name), seconds=_LONG)
    report("endpoints move", load, capsys)
    assert load.failures == []
    assert slow.failures == []


def _only(mesh: Changing, name: str) -> bool:
    """Whether what was there before is gone."""
    return {proxy["name"] for proxy in mesh.proxies()} == {"edge", name} and mesh.in_sync()


def test_a_route_to_a_cluster_of_the_same_edit(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    with mesh.load() as load:
        for number in range(10):
            another = service(f"other-{number}", "shop").replace(f"app: other-{number}", "app: app")
            mesh.up.write("other.yaml", another + "---\n" + routes(f"other-{number}", f"other-{number}"))
            if number == 0:
                mesh.up.remove("routes.yaml")
            eventually(lambda number=number: mesh.edit() == f"other-{number}", seconds=_LONG)
        mesh.up.write("routes.yaml", routes("back"))
        mesh.up.remove("other.yaml")
        eventually(lambda: mesh.edit() == "back", seconds=_LONG)
    report("new clusters", load, capsys)
    assert load.failures == []


def test_certificates_of_the_gateway(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    with mesh.insecure_load() as load:
        for _ in range(5):
            before = mesh.shown()
            mesh.up.write("edge-tls.yaml", credential())
            eventually(lambda before=before: mesh.shown() != before, seconds=_LONG)
    report("gateway certificates", load, capsys)
    assert load.failures == []


def test_keys_of_an_issuer(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    """Others come and go beside the key that signed; a token of before stays good."""
    up, file = mesh.up, mesh.up.folder / "jwks.json"
    ours = json.loads(file.read_text())["keys"]
    foreign = json.loads(isthmus("token", "--jwks", "--state", str(up.folder / "foreign")).stdout)["keys"]
    theirs = isthmus("token", "--state", str(up.folder / "foreign"), "--issuer", ISSUER).stdout.strip()
    bearer = {"authorization": f"Bearer {theirs}"}
    with mesh.load(headers=f"authorization: Bearer {up.token(ISSUER)}\r\n") as load:
        for _ in range(2):
            for keys, expected in ((ours + foreign, 200), (ours, 401)):
                temporary = file.with_suffix(".new")
                temporary.write_text(json.dumps({"keys": keys}))
                temporary.replace(file)
                eventually(
                    lambda expected=expected: up.get(f"http://{HOST}/", headers=bearer).status_code == expected,
                    seconds=_LONG,
                )
    report("issuers' keys", load, capsys)
    assert load.failures == []


def test_listeners_of_sidecar_and_gateway(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    """Standing connections end with an answer that says so."""
    up = mesh.up
    with mesh.load() as load, mesh.insecure_load() as secured:
        for header in ("x-claims", "x-others"):
            up.write("tokens.yaml", tokens(f", outputPayloadToHeader: {header}"))
            up.write("gateway.yaml", gateway(HTTP_SERVER + HTTPS_SERVER.replace("hosts: [", f"hosts: [{header}.com, ")))
            eventually(lambda header=header: f"{header}.com" in mesh.config("edge"), seconds=_LONG)
            eventually(mesh.in_sync, seconds=_LONG)
            _some(load), _some(secured)
    report("listeners", load, capsys)
    report("listeners, TLS", secured, capsys)
    assert load.failures == []
    assert secured.failures == []
    assert load.told_to_close + secured.told_to_close > 0


def test_a_port_of_the_gateway_that_goes_drains(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests that are under way there end well, new connections are refused, and the other ports notice nothing.

    Connections that stand idle there may ask once more while it drains, also for what went with it: that they are
    answered needs the filters, routes and clusters of before (8 ports removed at once, 6 such connections on each,
    three times: of 144 last requests 144 got a 500 where what nobody declares any more was removed at once, none now).
    """
    own = service("own", "shop").replace("app: own", "app: app") + "---\n" + routes("own", "own").replace(HOST, OWN)
    mesh.up.write("own.yaml", own.replace("{name: app, namespace: shop}", "{name: own, namespace: shop}"))
    more = HTTP_SERVER.replace("number: 80", "number: 8081").replace("name: http,", "name: more,")
    mesh.up.write("gateway.yaml", gateway(HTTP_SERVER + HTTPS_SERVER + more))
    eventually(lambda: "gateway_8081" in mesh.config("edge") and mesh.in_sync(), seconds=_LONG)
    host, _, port = mesh.address_of("gateway_8081").rpartition(":")
    with mesh.load() as staying, Load((host, int(port)), HOST, headers="x-delay: 0.5\r\n", rate=40) as leaving:
        _some(staying)
        eventually(lambda: leaving.answers[200] > 20, seconds=_LONG)
        eventually(lambda: mesh.status("/", OWN) == 200, seconds=_LONG)
        idle = [(_connection(host, int(port), name), name) for name in (HOST, OWN) for _ in range(10)]
        mesh.up.remove("own.yaml")
        mesh.up.write("gateway.yaml", gateway())
        eventually(lambda: any(failure.request == 0 for failure in leaving.failures), seconds=_LONG)
        eventually(lambda: mesh.status("/", OWN) == 404 and mesh.in_sync(), seconds=_LONG)
        last = Counter(_last(connection, name) for connection, name in idle)
    report("a port goes", leaving, capsys)
    assert staying.failures == []
    assert last.keys() <= {200, None}
    assert last[200] > 0
    _only_refused(leaving)


def _connection(host: str, port: int, name: str) -> http.client.HTTPConnection:
    """One that has asked once."""
    connection = http.client.HTTPConnection(host, port, timeout=20)
    connection.request("GET", "/", headers={"host": name})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    return connection


def _last(connection: http.client.HTTPConnection, name: str) -> int | None:
    """The status of one more answer, which says that it is the last; None: the connection is closed already."""
    with closing(connection):
        try:
            connection.request("GET", "/", headers={"host": name})
            answer = connection.getresponse()
        except ConnectionError:
            return None
        assert answer.headers["connection"] == "close"
        return answer.status


def _some(load: Load, more: int = 100) -> None:
    before = load.answers[200]
    eventually(lambda: load.answers[200] > before + more, seconds=_LONG)


def test_a_storm_of_edits_ends_in_the_last_of_each(mesh: Changing, capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand in some seconds, over 20 files; the control plane does not work on each of them."""
    files, edits = 20, 1000
    hosts = [f"storm-{number}.example.com" for number in range(files)]

    def write(number: int, edit: int) -> None:
        text = routes(str(edit)).replace(f"[{HOST}]", f"[{hosts[number]}]").replace("name: app,", f"name: s{number},")
        mesh.up.write(f"storm-{number}.yaml", text)

    plane = mesh.pid("serve")
    began, used = time.monotonic(), cpu_seconds(plane)
    with mesh.load() as load:
        for edit in range(edits):
            write(edit % files, edit)
            time.sleep(0.004)
        for number, host in enumerate(hosts):
            last = str(edits - files + number)
            eventually(lambda host=host, last=last: mesh.edit(host) == last, seconds=_LONG)
        took, spent = time.monotonic() - began, cpu_seconds(plane) - used
        for number in range(files):
            mesh.up.remove(f"storm-{number}.yaml")
        eventually(lambda: mesh.status("/", hosts[0]) == 404, seconds=_LONG)
    report(f"storm: {edits} edits in {took:.1f} s cost {spent:.1f} s of the control plane's CPU", load, capsys)
    assert load.failures == []
    assert spent < edits * 0.02, "far less than a rebuild for each edit"


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100


_SLOW = """\
import http.server, os, time

class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(1.0)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Slow).serve_forever()
"""


def local(folder: Path) -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: local, namespace: shop}}
spec:
  labels: {{app: app}}
  serviceAccount: app
  command: ["$(PYTHON)", "{folder / "slow.py"}"]
  ports: [{{name: http, number: 8080}}]
"""


def test_a_local_program_answers_what_it_has_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When it is removed, and when everything is stopped: its sidecar drains before it is told to end."""
    (tmp_path / "slow.py").write_text(_SLOW)
    with changing(tmp_path, extra={"local.yaml": local(tmp_path)}) as one:
        with one.load(rate=20, connections=8) as load:
            _some(load, 20)
            one.up.remove("local.yaml")
            eventually(lambda: len(one.proxies()) == 2 and one.in_sync(), seconds=_LONG)
            _some(load, 20)
        report("a local program is removed", load, capsys)
        assert load.failures == []
        with one.load(rate=20, connections=8) as load:
            _some(load, 20)
            one.up.write("app.yaml", service("app", "shop"))
            one.up.write("local.yaml", local(tmp_path))
            eventually(lambda: _only(one, "local"), seconds=_LONG)
        report("a local program takes over", load, capsys)
        assert load.failures == []
        eventually(lambda: _asked_another(one), seconds=_LONG)
        with one.load(rate=20, connections=8) as load:
            _some(load, 10)
            assert one.up.stop() == 0
        report("stop with a local program", load, capsys)
        assert load.slowest > 1.0, "it was the program that answered"
        _only_refused(load)


def _asked_another(mesh: Changing) -> bool:
    """Whether a request goes to somebody else than at first."""
    before = mesh.app.answered
    return mesh.status() == 200 and mesh.app.answered == before


def test_a_stop_lets_what_is_under_way_end_and_refuses_the_rest(
    mesh: Changing, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last test of this mesh: nothing but connections that were never taken fails."""
    slow: Callable[[int], Load] = lambda port: mesh.load(port, headers="x-delay: 0.4\r\n", rate=40)  # noqa: E731
    with mesh.load() as load, mesh.insecure_load() as secured, slow(80) as waiting:
        _some(load), _some(secured)
        eventually(lambda: waiting.answers[200] > 10, seconds=_LONG)
        began = time.monotonic()
        assert mesh.up.stop() == 0
        took = time.monotonic() - began
    for what, one in (("HTTP", load), ("HTTPS", secured), ("slow", waiting)):
        report(f"stop in {took:.1f} s, {what}", one, capsys)
        _only_refused(one)
        assert one.told_to_close > 0, "standing connections were told"


def _only_refused(load: Load) -> None:
    """New connections alone failed: refused, or in the moment of closing not accepted yet, which is told as a reset."""
    taken = [failure for failure in load.failures if failure.request > 1]
    assert taken == []
    reset = {"connect: ConnectionResetError", "ConnectionResetError"}
    assert load.reasons.keys() <= {"connect: ConnectionRefusedError", *reset}
    # Each of the eight that connect may meet that moment at either of Envoy's threads.
    assert sum(load.reasons.get(reason, 0) for reason in reset) <= 16
