"""The certificates of the local control plane, so that every connection of it is TLS and both ends are verified.

```
ca ─┬─ api-server (serving)          etcd-ca ─┬─ etcd (serving and peer)
    ├─ controller-manager (serving)           └─ etcd-client          used by the API server
    ├─ scheduler (serving)           front-proxy-ca ── front-proxy    API server to aggregated servers
    ├─ node (serving: kubelet API)   kubelet-client-ca ── kubelet-client   API server to node agent
    └─ clients: admin, controller-manager-client, scheduler-client, node-client
service-account.key: signs ServiceAccount tokens
```
etcd and the kubelet API have authorities of their own: what the cluster's authority signs (also through the CSR API)
opens neither. Keys are on P-256; files are readable by their owner only.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crds.admission.signing import authority_builder, certificate_builder, key_usage
from local.settings import LocalSettings

LEAF_LIFE = timedelta(days=365)
AUTHORITY_LIFE = timedelta(days=3650)
RENEW_LEAF_BEFORE = timedelta(days=60)
RENEW_AUTHORITY_BEFORE = timedelta(days=400)
CLOCK_SKEW = timedelta(minutes=5)
PRIVATE = 0o600

_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Leaf:
    """A certificate that should exist: who it speaks for and under which addresses it serves."""

    name: str
    authority: str
    common_name: str
    groups: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    also_client: bool = False

    @property
    def usages(self) -> list[x509.ObjectIdentifier]:
        if not self.addresses:
            return [_CLIENT]
        return [_SERVER, _CLIENT] if self.also_client else [_SERVER]


@dataclass(frozen=True)
class Authority:
    """A certificate authority that is loaded."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


AUTHORITIES = ("ca", "etcd-ca", "front-proxy-ca", "kubelet-client-ca")


@dataclass(frozen=True)
class Pki:
    """Where the certificates lie."""

    directory: Path

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    @property
    def service_account_key(self) -> Path:
        return self.directory / "service-account.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.directory / "service-account.pub"


def leaves(settings: LocalSettings) -> tuple[Leaf, ...]:
    """All certificates that the control plane and the node agent of these settings need."""
    loopback = ("127.0.0.1", "localhost")
    kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    node = settings.node_name
    return (
        Leaf(
            "api-server",
            "ca",
            "kube-apiserver",
            addresses=(*loopback, *kubernetes, settings.bridge_address, settings.service_address),
        ),
        Leaf("controller-manager", "ca", "kube-controller-manager", addresses=loopback),
        Leaf("scheduler", "ca", "kube-scheduler", addresses=loopback),
        Leaf(
            "node", "ca", f"system:node:{node}", ("system:nodes",), addresses=(*loopback, node, settings.bridge_address)
        ),
        Leaf("admin", "ca", "brixflow-admin", ("system:masters",)),
        Leaf("controller-manager-client", "ca", "system:kube-controller-manager"),
        Leaf("scheduler-client", "ca", "system:kube-scheduler"),
        Leaf("node-client", "ca", f"system:node:{node}", ("system:nodes",)),
        Leaf("kubelet-client", "kubelet-client-ca", "kube-apiserver-kubelet-client"),
        Leaf("front-proxy", "front-proxy-ca", "front-proxy-client"),
        Leaf("etcd", "etcd-ca", "etcd", addresses=loopback, also_client=True),
        Leaf("etcd-client", "etcd-ca", "kube-apiserver-etcd-client"),
    )


def ensure_pki(settings: LocalSettings, now: datetime) -> Pki:
    """Make what is missing, renew what ends soon or no longer fits the settings, and leave the rest untouched.

    A renewed authority renews all that it signed. The key for ServiceAccount tokens is made once and kept.
    """
    pki = Pki(settings.pki)
    pki.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authorities = {name: _ensure_authority(pki, name, now) for name in AUTHORITIES}
    for leaf in leaves(settings):
        authority = authorities[leaf.authority]
        if not _is_usable(pki, leaf, authority, now):
            _issue(pki, leaf, authority, now)
    if not pki.service_account_key.exists():
        _make_service_account_key(pki)
    return pki


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step; only its owner may read it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.touch(mode=PRIVATE)
    unfinished.write_bytes(content)
    unfinished.rename(path)


def _ensure_authority(pki: Pki, name: str, now: datetime) -> Authority:
    if pki.certificate(name).exists() and pki.key(name).exists():
        authority = Authority(_load_certificate(pki, name), _load_key(pki, name))
        if authority.certificate.not_valid_after_utc - now > RENEW_AUTHORITY_BEFORE:
            return authority
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"brixflow local {name}")])
    builder = authority_builder(subject, key, now - CLOCK_SKEW, AUTHORITY_LIFE + CLOCK_SKEW)
    certificate = builder.sign(key, hashes.SHA256())
    _write(pki, name, certificate, key)
    return Authority(certificate, key)


def _issue(pki: Pki, leaf: Leaf, authority: Authority, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject
    builder = certificate_builder(_subject(leaf), issuer, key, now - CLOCK_SKEW, now + LEAF_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
    )
    if leaf.addresses:
        builder = builder.add_extension(_alternative_names(leaf), critical=False)
    _write(pki, leaf.name, builder.sign(authority.key, hashes.SHA256()), key)


def _is_usable(pki: Pki, leaf: Leaf, authority: Authority, now: datetime) -> bool:
    if not (pki.certificate(leaf.name).exists() and pki.key(leaf.name).exists()):
        return False
    certificate = _load_certificate(pki, leaf.name)
    return (
        _is_signed_by(certificate, authority)
        and certificate.not_valid_after_utc - now > RENEW_LEAF_BEFORE
        and certificate.subject == _subject(leaf)
        and _names_of(certificate) == (_alternative_names(leaf) if leaf.addresses else None)
        and certificate.public_key() == _load_key(pki, leaf.name).public_key()
    )


def _is_signed_by(certificate: x509.Certificate, authority: Authority) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, InvalidSignature):
        return False
    return True


def _names_of(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _subject(leaf: Leaf) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in leaf.groups]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)])


def _alternative_names(leaf: Leaf) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(address) for address in leaf.addresses])


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _make_service_account_key(pki: Pki) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_private(pki.service_account_public_key, public)
    write_private(pki.service_account_key, _encoded(key))


def _encoded(key: ec.EllipticCurvePrivateKey) -> bytes:
    # the "EC PRIVATE KEY" form, which every component of Kubernetes reads
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write(pki: Pki, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(pki.key(name), _encoded(key))
    write_private(pki.certificate(name), certificate.public_bytes(serialization.Encoding.PEM))


def _load_certificate(pki: Pki, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.certificate(name).read_bytes())


def _load_key(pki: Pki, name: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pki.key(name).read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{pki.key(name)} does not hold an elliptic curve key: remove {pki.directory} to make new ones")
    return key
