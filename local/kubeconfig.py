"""Writes kubeconfigs: with client certificates for the control plane's parts, with tokens for ServiceAccounts.

The operator and the gateway run under their own ServiceAccounts with a token that the API server made, and so have
exactly the permissions that `deploy/` ships: what is missing there fails on this machine and not at a user's.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.build import bin_directory
from local.errors import KubectlError
from local.pki import Pki, write_private

TOKEN_HOURS = 24 * 365
NAME = "brixflow"


@dataclass(frozen=True)
class ServiceAccount:
    namespace: str
    name: str


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
    """Run the environment's kubectl and return what it printed. Raises KubectlError."""
    command = [str(bin_directory() / "kubectl"), "--kubeconfig", str(kubeconfig), *arguments]
    try:
        finished = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise KubectlError(f"kubectl {' '.join(arguments)}: no answer within {timeout_seconds:.0f} s") from None
    if finished.returncode != 0:
        raise KubectlError(f"kubectl {' '.join(arguments)}: {finished.stderr.strip()}")
    return finished.stdout


def write_certificate_kubeconfig(target: Path, server: str, pki: Pki, client: str) -> None:
    """A kubeconfig that authenticates with the client certificate of that name; unchanged content is not written."""
    user = {
        "client-certificate-data": _encoded(pki.certificate(client)),
        "client-key-data": _encoded(pki.key(client)),
    }
    cluster = {"server": server, "certificate-authority-data": _encoded(pki.certificate("ca"))}
    _write(target, cluster, user)


def ensure_token_kubeconfig(target: Path, admin: Path, account: ServiceAccount) -> None:
    """A kubeconfig for a ServiceAccount that exists, for the cluster of the administrator's kubeconfig.

    The token is made by the API server's TokenRequest. One that the API server still takes is kept, so that whoever
    uses the file need not start again. Raises KubectlError if the account is missing.
    """
    cluster = _cluster_of(admin)
    identity = kubectl(
        admin,
        "get",
        "serviceaccount",
        account.name,
        "--namespace",
        account.namespace,
        "--output=jsonpath={.metadata.uid}",
    )
    if target.exists() and _cluster_of(target) == cluster and _is_good(target, identity):
        return
    token = kubectl(
        admin, "create", "token", account.name, "--namespace", account.namespace, f"--duration={TOKEN_HOURS}h"
    )
    _write(target, cluster, {"token": token.strip()})


def _is_good(kubeconfig: Path, identity: str) -> bool:
    """Whether the token is this very account's, less than half of its life has passed and the API server takes it."""
    claims = _claims(kubeconfig)
    if (
        claims["kubernetes.io"]["serviceaccount"]["uid"] != identity
        or time.time() > (claims["iat"] + claims["exp"]) / 2
    ):
        return False
    try:
        kubectl(kubeconfig, "auth", "whoami")
    except KubectlError:
        return False
    return True


def _claims(kubeconfig: Path) -> dict[str, Any]:
    """What the token says about itself."""
    token = json.loads(kubeconfig.read_text())["users"][0]["user"]["token"]
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _cluster_of(kubeconfig: Path) -> dict[str, Any]:
    view = json.loads(kubectl(kubeconfig, "config", "view", "--raw", "--minify", "--flatten", "--output", "json"))
    cluster: dict[str, Any] = view["clusters"][0]["cluster"]
    return cluster


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _write(target: Path, cluster: dict[str, Any], user: dict[str, str]) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": user}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
        "current-context": NAME,
    }
    content = json.dumps(document, indent=2).encode() + b"\n"
    if not target.exists() or target.read_bytes() != content:
        write_private(target, content)
