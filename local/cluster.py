"""What a cluster must hold before the operator and the gateway can run: kinds, namespace, accounts and their rights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local.errors import ClusterError, KubectlError
from local.kubeconfig import ServiceAccount, ensure_token_kubeconfig, kubectl
from local.settings import CHECKOUT, LocalSettings

KUSTOMIZATION = CHECKOUT / "deploy" / "local"
NAMESPACE = "aibrix-system"
OPERATOR_ACCOUNT = ServiceAccount(NAMESPACE, "aibrix-controller-manager")
GATEWAY_ACCOUNT = ServiceAccount(NAMESPACE, "aibrix-gateway-plugins")
FIELD_MANAGER = "brixflow-local"


def apply_manifests(settings: LocalSettings) -> None:
    """Apply `deploy/local` and wait until the API server serves its kinds. Changes nothing that is as it should be."""
    try:
        applied = apply(settings, "-k", str(KUSTOMIZATION), "--output", "name").split()
        kinds = [name for name in applied if name.startswith("customresourcedefinition.")]
        kubectl(settings.kubeconfig, "wait", "--for=condition=Established", "--timeout=30s", *kinds)
    except KubectlError as error:
        raise ClusterError(f"the manifests under {KUSTOMIZATION} cannot be applied: {error}") from None


def apply(settings: LocalSettings, *what: str, stdin: str | None = None) -> str:
    """Server-side apply as this room. Raises KubectlError."""
    manager = f"--field-manager={FIELD_MANAGER}"
    return kubectl(settings.kubeconfig, "apply", "--server-side", "--force-conflicts", manager, *what, stdin=stdin)


def write_account_kubeconfigs(settings: LocalSettings) -> None:
    """Kubeconfigs with tokens for the operator and the gateway; tokens that still work are kept."""
    wanted = ((settings.operator_kubeconfig, OPERATOR_ACCOUNT), (settings.gateway_kubeconfig, GATEWAY_ACCOUNT))
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(_write_account_kubeconfig, settings, *target) for target in wanted]:
            future.result()


def _write_account_kubeconfig(settings: LocalSettings, target: Path, account: ServiceAccount) -> None:
    try:
        ensure_token_kubeconfig(target, settings.kubeconfig, account)
    except KubectlError as error:
        raise ClusterError(f"no token for the ServiceAccount {account.name}: {error}") from None


def check_reachable(settings: LocalSettings) -> str:
    """The version of the cluster. Raises ClusterError when it does not answer."""
    try:
        return kubectl(settings.kubeconfig, "get", "--raw", "/version", timeout_seconds=15)
    except KubectlError as error:
        raise ClusterError(f"the cluster of {settings.kubeconfig} does not answer: {error}") from None
