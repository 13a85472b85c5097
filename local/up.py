"""`brixflow up`: from an installed environment to an endpoint that answers.

It looks before it leaps: every lack of the machine is said before anything is built or started. It may be run at any
time: what runs as described is left alone, what is missing is started, what changed is restarted and named.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local.build import bin_directory, build_control_plane, control_plane_binary
from local.cluster import apply_manifests, check_reachable, write_account_kubeconfigs
from local.errors import BuildError, UpError
from local.lock import alone
from local.node.build import build_shim
from local.preflight import Finding, examine_machine
from local.progress import Steps
from local.sample import apply_once, curl_line, present, rollout_link, wait_until_serving
from local.settings import LocalSettings
from local.supervisor.client import start_supervisor
from local.supervisor.records import running_records
from local.system import brixflow_parts, foundation
from local.webhooks import publish_webhook_endpoint

TEMPORAL_CONNECT_SECONDS = 5.0


@dataclass
class _Changes:
    """What the supervisor did to the parts, and the steps that show it."""

    steps: Steps
    names: list[str] = field(default_factory=list)

    def report(self, event: dict[str, Any]) -> None:
        if event["event"] in ("starting", "changed"):
            self.names.append(event["part"])
        self.steps.report(event)


def up(settings: LocalSettings, steps: Steps, *, with_sample: bool = True) -> None:
    """Bring the system up and print how to use it.

    Raises UpError, BuildError, SupervisorError, ClusterError or SettingError. What was started until then keeps
    running: the next `up` goes on from there, and `down` ends it.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(settings.home):
        _refuse_lacks(examine_machine(settings, running_sessions(settings)))
        _check_what_the_user_brings(settings)
        _build(settings, steps)
        changes = _Changes(steps)
        _start(settings, steps, changes)
        serves = with_sample and _bring_sample(settings, steps)
        if not changes.names:
            steps.say("Everything runs already; nothing was changed.")
        for line in summary(settings, serves=serves):
            steps.say(line)


def running_sessions(settings: LocalSettings) -> list[int]:
    """The process ids of this home's running parts, supervised or not; each leads a session."""
    return [record.identity.pid for record in running_records(settings.home)]


def summary(settings: LocalSettings, *, serves: bool) -> Iterator[str]:
    """What a person does next: the curl line, the page in the Temporal UI, the line for kubectl."""
    yield ""
    yield f"  endpoint     {settings.endpoint}"
    found = present(settings) if serves else []
    if found:
        yield f"  try it       {curl_line(settings, found[0].model)}"
    if settings.external_temporal is None:
        yield f"  Temporal UI  {settings.temporal_ui}"
        if found and (link := rollout_link(settings, found[0])):
            yield f"  rollout      {link}"
    else:
        yield f"  Temporal     {settings.external_temporal}"
    yield f"  kubectl      export KUBECONFIG={settings.kubeconfig} PATH={bin_directory()}:$PATH"
    yield "  more         brixflow status | logs PART | down"


def _refuse_lacks(findings: list[Finding]) -> None:
    lacks = [f"{finding.name}: {finding.text}; {finding.remedy}" for finding in findings if finding.is_lack]
    if lacks:
        raise UpError("\n".join(lacks))


def _check_what_the_user_brings(settings: LocalSettings) -> None:
    if settings.external_kubeconfig is not None:
        if not settings.external_kubeconfig.exists():
            raise UpError(f"there is no kubeconfig {settings.external_kubeconfig}")
        check_reachable(settings)
    if settings.external_temporal is not None:
        host, _, port = settings.external_temporal.rpartition(":")
        try:
            socket.create_connection((host, int(port)), TEMPORAL_CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            raise UpError(f"Temporal at {settings.external_temporal!r} (host:port) does not answer: {error}") from None


def _build(settings: LocalSettings, steps: Steps) -> None:
    if settings.external_kubeconfig is not None:
        return
    if not control_plane_binary().exists():
        with steps.step("building the Kubernetes control plane"):
            build_control_plane(settings.logs / "build.log")
    try:
        build_shim(settings.home / "node" / "shim")  # a second, and only after its source changed
    except subprocess.CalledProcessError as error:
        raise BuildError(f"the pod shim cannot be compiled: {error}") from None


def _start(settings: LocalSettings, steps: Steps, changes: _Changes) -> None:
    supervisor = start_supervisor(settings.home)
    basis = foundation(settings)
    if basis:
        with steps.step("starting the control plane and Temporal"):
            supervisor.ensure(basis, changes.report)
    with steps.step("applying kinds, accounts and rights"):
        apply_manifests(settings)
        publish_webhook_endpoint(settings)
        write_account_kubeconfigs(settings)
    parts = brixflow_parts(settings)
    with steps.step(f"starting {', '.join(part.name for part in parts)}"):
        supervisor.retain([part.name for part in (*basis, *parts)], changes.report)
        supervisor.ensure([*basis, *parts], changes.report)


def _bring_sample(settings: LocalSettings, steps: Steps) -> bool:
    with steps.step("applying the sample"):
        is_there = apply_once(settings)
    if not is_there:
        steps.say("  The sample was deleted; `kubectl apply -f deploy/samples/quickstart.yaml` brings it back.")
        return False
    with steps.step("waiting until the sample serves"):
        wait_until_serving(settings)
    return True
