"""The certificates of the admission server: an authority of our own and what it signs, as a Secret keeps them.

    ca.crt   the authority, then the one before it while that is valid    ca.key   the authority's key
    tls.crt  what the server shows, signed by the authority               tls.key  its key

The names are those of AIBrix's rotator, so that either can go on with the other's Secret. The old authority stays in
the bundle after a change: a replica that still shows an older certificate is trusted until it reads the Secret again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crds.admission.signing import authority_builder, certificate_builder

CA_CERT: Final = "ca.crt"
CA_KEY: Final = "ca.key"
CERT: Final = "tls.crt"
KEY: Final = "tls.key"
AUTHORITY_NAME: Final = "aibrix-ca"
ORGANIZATION: Final = "aibrix"
AUTHORITY_LIFE: Final = timedelta(days=3650)
SERVER_LIFE: Final = timedelta(days=365)
RENEW_AUTHORITY_BEFORE: Final = timedelta(days=2 * 365)
"""Longer than a server certificate lives, so that none outlives the authority that signed it."""
RENEW_SERVER_BEFORE: Final = timedelta(days=90)
BACKDATED: Final = timedelta(hours=1)
"""For clocks that are behind ours."""

Secret = Mapping[str, bytes]


def renewed(held: Secret, names: Sequence[str], now: datetime) -> Secret:
    """What the Secret should hold for a server of these DNS names; `held` itself when nothing is due.

    `now` is timezone aware. What cannot be read counts as missing.
    """
    authority, key = _authority(held, now)
    if authority is None or key is None:
        authority, key = _make_authority(now)
    elif _serves(held, authority, names, now):
        return held
    bundle = [authority, *(old for old in _certificates(held, CA_CERT) if _is_kept(old, authority, now))]
    certificate, server_key = _make_server(authority, key, names, now)
    return {
        CA_CERT: b"".join(each.public_bytes(serialization.Encoding.PEM) for each in bundle),
        CA_KEY: _pem(key),
        CERT: certificate.public_bytes(serialization.Encoding.PEM),
        KEY: _pem(server_key),
    }


def end_of(held: Secret) -> datetime:
    """When the server's certificate expires. Raises ValueError when there is none."""
    found = next(_certificates(held, CERT), None)
    if found is None:
        raise ValueError(f"no certificate in {CERT}")
    return found.not_valid_after_utc


def _authority(held: Secret, now: datetime) -> tuple[x509.Certificate | None, ec.EllipticCurvePrivateKey | None]:
    """The authority and its key while both are there, fit together and are not due."""
    certificate = next(_certificates(held, CA_CERT), None)
    key = _key(held, CA_KEY)
    if certificate is None or key is None or certificate.public_key() != key.public_key():
        return None, None
    return (certificate, key) if certificate.not_valid_after_utc - RENEW_AUTHORITY_BEFORE > now else (None, None)


def _serves(held: Secret, authority: x509.Certificate, names: Sequence[str], now: datetime) -> bool:
    certificate, key = next(_certificates(held, CERT), None), _key(held, KEY)
    if certificate is None or key is None or certificate.public_key() != key.public_key():
        return False
    try:
        certificate.verify_directly_issued_by(authority)
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    has_names = set(names) <= set(alternative.value.get_values_for_type(x509.DNSName))
    return has_names and certificate.not_valid_after_utc - RENEW_SERVER_BEFORE > now


def _is_kept(old: x509.Certificate, authority: x509.Certificate, now: datetime) -> bool:
    return old != authority and old.not_valid_after_utc > now


def _certificates(held: Secret, entry: str) -> Iterator[x509.Certificate]:
    try:
        yield from x509.load_pem_x509_certificates(held.get(entry, b""))
    except ValueError:
        return


def _key(held: Secret, entry: str) -> ec.EllipticCurvePrivateKey | None:
    """Keys of another kind count as missing: ours are of one kind."""
    try:
        key = serialization.load_pem_private_key(held.get(entry, b""), password=None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _make_authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = authority_builder(_name(AUTHORITY_NAME), key, now - BACKDATED, AUTHORITY_LIFE + BACKDATED)
    return builder.sign(key, hashes.SHA256()), key


def _make_server(
    authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = (
        certificate_builder(_name(names[0]), authority.subject, key, now - BACKDATED, now + SERVER_LIFE)
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(authority_key, hashes.SHA256()), key


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
        ]
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
