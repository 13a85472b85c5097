"""What every certificate of ours is made of, whoever signs it and wherever it is kept."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid_from: datetime, ends: datetime
) -> x509.CertificateBuilder:
    """A certificate of `key` that lacks its extensions of use, and a signature."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid_from)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def authority_builder(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, valid_from: datetime, life: timedelta
) -> x509.CertificateBuilder:
    """An authority that signs itself and what lies right below it, no further authority."""
    builder = certificate_builder(name, name, key, valid_from, valid_from + life)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(key_usage(signs_certificates=True), critical=True)


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
