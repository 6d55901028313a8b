"""What is wrong with the bundles of RegoPolicies, and what comes of it. Pure."""

from __future__ import annotations

from isthmus.control.bundles import SecretValue, Statuses, bearer_token, bundle_policies
from isthmus.decide.rego.activation import NOT_YET
from isthmus.diag import Code, Diagnostic, Place, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.rego import RegoPolicy

BUNDLE_MISSING = Code(
    "ISM7062",
    Severity.ERROR,
    "A RegoPolicy without its bundle",
    "the bundle {location} cannot be had ({reason}), and none is kept: all that the policy is about is refused",
    what="The source of a bundle has given none since the policy is there.",
    why="Nobody can tell what the policy would say, so nobody gets in.",
    example="bundle: {url: https://bundles.example/authz.tar.gz}   # answered 404",
    fix="Follow the reason: the URL or path, the token, the network.",
    stops=False,
)
BUNDLE_REFUSED = Code(
    "ISM7063",
    Severity.ERROR,
    "A bundle that is not taken",
    "the bundle {location} is refused ({reason}): {effect}",
    what="What the source has is not a bundle, not signed by the keys under verification, or cannot be compiled.",
    why="A bundle is taken as a whole or not at all. The last good one stays in force, on all machines, until a better "
    "one comes.",
    example="(a bundle whose policy.rego calls http.send, or that was changed after it was signed)",
    fix="Follow the reason, and publish the bundle anew.",
    stops=False,
)
BUNDLE_STALE = Code(
    "ISM7064",
    Severity.WARNING,
    "A bundle whose source is away",
    "the bundle {location} cannot be asked for ({reason}): revision {revision} stays in force",
    what="The source of a bundle does not answer, and the bundle that it gave last decides.",
    why="Whatever is published meanwhile is not in force.",
    example="(a bundle server that is down)",
    fix="Follow the reason.",
)
DECISION_LOG_TOKEN = Code(
    "ISM7065",
    Severity.ERROR,
    "A decision log whose token is missing",
    "the Secret {secret} has no token: decisions go to {url} without one",
    what='decisionLog.credentialName names a Secret that is not there, or that has no "token".',
    why="The server will mostly refuse what comes without a token. Decisions are then in the file on the node alone.",
    example="decisionLog: {url: https://logs.example, credentialName: no-such-secret}",
    fix="Declare the Secret, with the token under `token`.",
    stops=False,
)


def bundle_findings(mesh: Mesh, statuses: Statuses, value: SecretValue) -> tuple[Diagnostic, ...]:
    report = Report()
    _of_logs(mesh, value, report)
    for policy, source in bundle_policies(mesh):
        status = statuses.get(policy.key)
        if status is None or status.error is None or status.error == NOT_YET:
            continue
        place = Place(policy.origin.source, policy.origin.ref, "spec.bundle")
        revision = "" if status.active is None else status.active.revision or status.active.digest[:12]
        if status.refused:
            effect = f"revision {revision} stays in force" if revision else "there is none yet, so requests are refused"
            report.add(BUNDLE_REFUSED, place, location=source.location, reason=status.error, effect=effect)
        elif revision:
            report.add(BUNDLE_STALE, place, location=source.location, reason=status.error, revision=revision)
        else:
            report.add(BUNDLE_MISSING, place, location=source.location, reason=status.error)
    return tuple(report)


def _of_logs(mesh: Mesh, value: SecretValue, report: Report) -> None:
    for policy in mesh.policies.rego:
        log = policy.log if isinstance(policy, RegoPolicy) else None
        if log is not None and log.credential is not None and bearer_token(value, log.credential) is None:
            place = Place(policy.origin.source, policy.origin.ref, "spec.decisionLog")
            report.add(DECISION_LOG_TOKEN, place, secret=log.credential, url=log.url)
