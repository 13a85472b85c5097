"""The sample that a new home gets: applied once, then it belongs to the user, who may change or delete it.

It counts as serving when its StormServices are ready and a chat request for each of their models comes back through
Envoy with 200: everything on the way has then done its work.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import yaml

from local.build import bin_directory
from local.cluster import apply
from local.errors import ClusterError, KubectlError
from local.kubeconfig import kubectl
from local.parts.python import gateway
from local.settings import CHECKOUT, LocalSettings

SAMPLE = CHECKOUT / "deploy" / "samples" / "quickstart.yaml"
MODEL_LABEL = "model.aibrix.ai/name"
SERVING_SECONDS = 120.0
REQUEST_SECONDS = 10.0
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Service:
    """A StormService of the sample."""

    namespace: str
    name: str
    model: str


def services() -> list[Service]:
    """The StormServices of the sample's file."""
    documents = [document for document in yaml.safe_load_all(SAMPLE.read_text()) if document]
    return [_service(document) for document in documents if document["kind"] == "StormService"]


def apply_once(settings: LocalSettings) -> bool:
    """Apply the sample unless this home, or the cluster, has had it; tells whether it is (still) there."""
    mark = settings.home / "sample-applied"
    if not mark.exists() and not present(settings):
        try:
            apply(settings, "-f", str(SAMPLE))
        except KubectlError as error:
            raise ClusterError(f"the sample {SAMPLE} cannot be applied: {error}") from None
    mark.touch()
    return bool(present(settings))


def present(settings: LocalSettings) -> list[Service]:
    """Those of the sample's StormServices that exist and want replicas."""
    found = []
    for service in services():
        document = _get(settings, service)
        if document and document["spec"].get("replicas", 1) > 0 and "deletionTimestamp" not in document["metadata"]:
            found.append(service)
    return found


def wait_until_serving(settings: LocalSettings, deadline_seconds: float = SERVING_SECONDS) -> None:
    """Raises ClusterError, which says what is not ready, when the deadline passes."""
    deadline = time.monotonic() + deadline_seconds
    for service in present(settings):
        while reason := _blocked(settings, service):
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{service.name} does not serve after {deadline_seconds:.0f} s: {reason} "
                    "(`brixflow status` and `kubectl get stormservices,rolesets,pods` show more)"
                )
            time.sleep(PAUSE_SECONDS)


def ask(endpoint: str, model: str, api_key: str = "") -> int:
    """Send one chat request and return the HTTP status, 0 if there was no answer."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}).encode()
    request = urllib.request.Request(  # noqa: S310 - the endpoint is http and ours
        f"{endpoint}/v1/chat/completions",
        body,
        {"Content-Type": "application/json", "Authorization": f"Bearer {api_key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def curl_line(settings: LocalSettings, model: str) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Tell me a story"}]})
    key = ' -H "Authorization: Bearer $AIBRIX_AUTH_BEARER_TOKEN"' if _api_key(settings) else ""
    return f"curl -i {settings.endpoint}/v1/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'"


def rollout_link(settings: LocalSettings, service: Service) -> str | None:
    """The page of the service's latest rollout in the Temporal UI, None if Temporal knows of none."""
    prefix = f"rollout/stormservice/{service.namespace}/{service.name}/"
    query = ("--query", f'WorkflowId STARTS_WITH "{prefix}"', "--limit", "1")
    command = [str(bin_directory() / "temporal"), "workflow", "list", "--address", settings.temporal_address]
    answer = subprocess.run([*command, *query, "--output", "json"], capture_output=True, text=True, check=False)
    found = json.loads(answer.stdout) if answer.returncode == 0 else []
    if not found:
        return None
    workflow_id = found[0]["execution"]["workflowId"]
    return f"{settings.temporal_ui}/namespaces/default/workflows/{quote(workflow_id, safe='')}"


def _service(document: dict[str, Any]) -> Service:
    metadata = document["metadata"]
    role = document["spec"]["template"]["spec"]["roles"][0]
    model = role["template"]["metadata"]["labels"][MODEL_LABEL]
    return Service(metadata.get("namespace", "default"), metadata["name"], model)


def _get(settings: LocalSettings, service: Service) -> dict[str, Any] | None:
    arguments = (
        "get",
        "stormservice",
        service.name,
        "--namespace",
        service.namespace,
        "--ignore-not-found",
        "-o",
        "json",
    )
    text = kubectl(settings.kubeconfig, *arguments)
    document: dict[str, Any] | None = json.loads(text) if text.strip() else None
    return document


def _blocked(settings: LocalSettings, service: Service) -> str:
    """Why the service does not serve; empty if it does."""
    document = _get(settings, service)
    if document is None:
        return ""  # deleted meanwhile: nothing to wait for
    conditions = {condition["type"]: condition for condition in document.get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready")
    if ready is None or ready["status"] != "True":
        shown = [condition for condition in (ready, *conditions.values()) if condition]
        return " ".join(["not ready:", *_words(shown[0])]) if shown else "not ready: it has no status yet"
    status = ask(settings.endpoint, service.model, _api_key(settings))
    return "" if status == 200 else f"a chat request through {settings.endpoint} answers {status or 'nothing'}"


def _api_key(settings: LocalSettings) -> str:
    """What clients of this gateway must send; empty if it lets everybody in."""
    return gateway(settings).environment.get("AIBRIX_AUTH_BEARER_TOKEN", "")


def _words(condition: dict[str, str]) -> list[str]:
    return [condition[field] for field in ("reason", "message") if condition.get(field)]
