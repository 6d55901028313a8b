"""What a DestinationRule says well, and what cannot work for the service that it is for."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.diag import Code, Report, Severity
from isthmus.kinds.destination_rule.spec import DestinationRuleSpec, PolicySpec, PortPolicySpec
from isthmus.model.cluster import Resolution, Service
from isthmus.model.credential import find_client_credential
from isthmus.model.mesh import Mesh
from isthmus.model.server_names import ServerNames
from isthmus.model.traffic_policy import ClientTls, TlsMode

NO_CREDENTIAL = Code(
    "ISM2142",
    Severity.ERROR,
    "A client's certificate that nobody has",
    'no namespace has a Secret "{name}" with {lacking}: nobody can connect as this rule says',
    what="A DestinationRule's credentialName names a Secret that is not there, or that lacks what its TLS mode needs.",
    why="A proxy uses the Secrets of its own namespace alone; without one it connects to nobody, never in plaintext.",
    example="tls: {mode: MUTUAL, credentialName: partner}   # and no Secret partner beside the gateway",
    fix="Add the Secret (tls.crt and tls.key for MUTUAL, ca.crt) in the namespace of the proxies that connect.",
    stops=False,
)
NO_NAME = Code(
    "ISM2143",
    Severity.ERROR,
    "A server without a name to verify",
    "{host} port {port} is no single name that a certificate could have: its connections are refused",
    what="TLS to a wildcard host on a port that is not HTTP, where no request names its server.",
    why="A certificate for any name at all would be believed.",
    example="host: '*.example.com'   # port: {protocol: TCP}\ntrafficPolicy: {tls: {mode: SIMPLE}}",
    fix="Give sni or subjectAltNames, or a rule for each host.",
    stops=False,
)
NEVER_EJECTS = Code(
    "ISM2144",
    Severity.WARNING,
    "Outlier detection that can eject nobody",
    "maxEjectionPercent {percent} of {count} endpoints is less than one: none is ever ejected",
    what="The share of endpoints that may be ejected at one time, rounded down, is none.",
    why="Envoy counts failures and ejects nobody. The default, 10, needs ten endpoints.",
    example="outlierDetection: {consecutive5xxErrors: 5}   # two endpoints",
    fix="Set maxEjectionPercent: 100 divided by the number of endpoints lets one be ejected.",
)
NOT_APPLIED = Code(
    "ISM2145",
    Severity.ERROR,
    "A trafficPolicy for hosts that callers resolve",
    "{host} has no endpoints of its own (resolution: NONE): what this rule says of its traffic cannot be applied",
    what="A DestinationRule says how to connect to a host whose connections are passed on as the callers name them.",
    why="All such hosts share one way out, without TLS, limits or ejection of their own.",
    example="host: '*.example.com'   # of a ServiceEntry with resolution: NONE\ntrafficPolicy: {tls: {mode: SIMPLE}}",
    fix="Declare the host with resolution: DNS.",
    stops=False,
)

TLS_REPLACED = Code(
    "ISM2146",
    Severity.WARNING,
    "A port without its service's TLS",
    "port {port}: its settings replace those of all ports, tls {mode} among them, and say nothing of tls themselves",
    what="A trafficPolicy asks for TLS, and its portLevelSettings have an entry without tls.",
    why="Settings of a port replace the others whole, as in Istio: requests to a host outside go there in plaintext.",
    example="trafficPolicy:\n  tls: {mode: SIMPLE}\n  portLevelSettings:\n"
    "  - {port: {number: 443}, connectionPool: {tcp: {maxConnections: 10}}}",
    fix="Repeat tls in the entry of the port, or say tls: {mode: DISABLE} if plaintext is meant.",
)


def report_pitfalls(rule: DestinationRuleSpec, service: Service, mesh: Mesh, report: Report) -> None:
    _report_replaced(rule, report)
    for level in _levels(rule):
        if service.resolution is Resolution.NONE:
            report.add(NOT_APPLIED, level.at, host=service.host)
            continue
        if level.tls is not None and level.tls.mode.is_origination:
            _report_credential(level, level.tls, mesh, report)
            _report_name(level, level.tls, service, report)
        if level.outlier_detection is not None:
            percent = level.outlier_detection.max_ejection_percent
            count = len(mesh.workloads_of(service)) + len(service.endpoints)
            if count and 100 > count * percent > 0:
                report.add(NEVER_EJECTS, level.at.at("outlierDetection"), percent=percent, count=count)


def _report_replaced(rule: DestinationRuleSpec, report: Report) -> None:
    everywhere = rule.traffic_policy.tls if rule.traffic_policy is not None else None
    for policy in (rule.traffic_policy, *(subset.traffic_policy for subset in rule.subsets)):
        wanted = (policy.tls or everywhere) if policy is not None else None
        if policy is None or wanted is None or wanted.mode is TlsMode.DISABLE:
            continue
        for level in policy.port_level_settings:
            if level.tls is None:
                report.add(TLS_REPLACED, level.at, port=level.port.number, mode=wanted.mode.value)


def _levels(rule: DestinationRuleSpec) -> Iterator[PolicySpec | PortPolicySpec]:
    for policy in (rule.traffic_policy, *(subset.traffic_policy for subset in rule.subsets)):
        if policy is not None:
            yield from policy.levels


def _report_credential(level: PolicySpec | PortPolicySpec, tls: ClientTls, mesh: Mesh, report: Report) -> None:
    if tls.credential is None:
        return
    certificate, verify = tls.mode is TlsMode.MUTUAL, not tls.skip_verify
    namespaces = {secret.namespace for secret in mesh.secrets.values()}
    held = (find_client_credential(mesh.secrets, namespace, tls.credential) for namespace in namespaces)
    if not any(one.serves(certificate, verify=verify) for one in held):
        parts = ["tls.crt and tls.key"] * certificate + ["ca.crt"] * verify
        at = level.at.at("tls", "credentialName")
        report.add(NO_CREDENTIAL, at, name=tls.credential, lacking=", and ".join(parts))


def _report_name(level: PolicySpec | PortPolicySpec, tls: ClientTls, service: Service, report: Report) -> None:
    names = ServerNames.of(service, tls)
    for port in service.ports:
        meant = not isinstance(level, PortPolicySpec) or level.port.number == port.number
        if meant and not tls.skip_verify and not names.verifiable(port.protocol):
            report.add(NO_NAME, level.at.at("tls"), host=service.host, port=port.number)
