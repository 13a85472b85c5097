"""Admission in the operator process: the server, and its certificate kept in the Secret and in the webhooks' objects.

Every replica serves and looks after the certificates; the Secret's resourceVersion decides who renews. The objects
that are looked after must exist: the operator may change them and make none.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from activities.errors import KubeConflict, KubeError, KubeNotFound
from activities.kube import JSON_PATCH, KubeClient, path_of
from activities.metrics import Metrics
from crds.admission import certificates
from crds.admission.server import AdmissionServer, Outcome
from planning.planner import Resource

Json = dict[str, Any]

log = logging.getLogger(__name__)

SERVICE: Final = "aibrix-webhook-service"
SECRET: Final = "aibrix-webhook-server-cert"  # noqa: S105 - the name of an object
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
_GROUP: Final = "admissionregistration.k8s.io"
CONFIGURATIONS: Final = {
    "aibrix-mutating-webhook-configuration": Resource(
        _GROUP, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"
    ),
    "aibrix-validating-webhook-configuration": Resource(
        _GROUP, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"
    ),
}
CHECK_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 2.0


class Admission:
    """Serves at `address`; `waiting_for` says what keeps it from answering, empty when nothing does."""

    def __init__(
        self, kube: KubeClient, address: tuple[str, int], namespace: str, image: str, metrics: Metrics
    ) -> None:
        self._kube = kube
        self._address = address
        self._namespace = namespace
        self._metrics = metrics
        self._server = AdmissionServer(image, self._observe)
        self._waits = "the webhooks' certificate"
        self._missing: set[str] = set()

    def waiting_for(self) -> str:
        return self._waits

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        await self._server.start(*self._address)

    async def stop(self) -> None:
        await self._server.stop()

    async def run(self) -> None:
        """Look after the certificates until cancelled."""
        while True:
            try:
                await self.refresh()
            except KubeError as error:
                log.warning("webhook-certificate-failed error=%s", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(CHECK_SECONDS)

    async def refresh(self) -> None:
        """Renew what is due, show it, and have the webhooks' objects trust it. Raises KubeError."""
        held = await self._certificates()
        await self._server.show(held[certificates.CERT], held[certificates.KEY])
        self._metrics.certificate_end.set(certificates.end_of(held).timestamp())
        bundle = base64.b64encode(held[certificates.CA_CERT]).decode()
        for name, resource in CONFIGURATIONS.items():
            await self._trust(resource, name, bundle)
        self._waits = ""

    async def _certificates(self) -> Mapping[str, bytes]:
        while True:
            secret = await self._kube.get(SECRETS, self._namespace, SECRET)
            held = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
            names = [f"{SERVICE}.{self._namespace}.svc", f"{SERVICE}.{self._namespace}.svc.cluster.local"]
            wanted = certificates.renewed(held, names, datetime.now(UTC))
            if wanted is held:
                return held
            data = {key: base64.b64encode(value).decode() for key, value in wanted.items()}
            try:
                await self._kube.replace(SECRETS, self._namespace, SECRET, secret | {"data": data})
            except KubeConflict:
                continue
            log.info("webhook-certificate-renewed secret=%s namespace=%s", SECRET, self._namespace)
            return wanted

    async def _trust(self, resource: Resource, name: str, bundle: str) -> None:
        """Write the authority into every webhook of the object that calls our Service."""
        path = path_of(resource, None, name)
        try:
            found = await self._kube.call("GET", path)
        except KubeNotFound:
            if name not in self._missing:
                log.warning("webhooks-not-installed configuration=%s", name)
            self._missing.add(name)
            return
        self._missing.discard(name)
        changes = [
            {"op": "add", "path": f"/webhooks/{place}/clientConfig/caBundle", "value": bundle}
            for place, webhook in enumerate(found.get("webhooks") or ())
            if self._is_ours(webhook) and webhook["clientConfig"].get("caBundle") != bundle
        ]
        if changes:
            version = found["metadata"]["resourceVersion"]
            patch = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *changes]
            await self._kube.call("PATCH", path, body=patch, content_type=JSON_PATCH)
            log.info("webhooks-trust configuration=%s webhooks=%d", name, len(changes))

    def _observe(self, webhook: str, outcome: Outcome, seconds: float) -> None:
        self._metrics.admissions.labels(webhook, outcome.value).inc()
        self._metrics.admission_seconds.labels(webhook).observe(seconds)

    def _is_ours(self, webhook: Json) -> bool:
        service = webhook["clientConfig"].get("service") or {}
        return (service.get("namespace"), service.get("name")) == (self._namespace, SERVICE)
