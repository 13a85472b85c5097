"""The webhooks' certificates: made when missing, renewed in time, trusted across a change of the authority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from crds.admission.certificates import renewed

NAMES = ["aibrix-webhook-service.aibrix-system.svc", "aibrix-webhook-service.aibrix-system.svc.cluster.local"]
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def first():
    return renewed({}, NAMES, START)


def certificates(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def test_an_empty_secret_gets_an_authority_and_what_it_signs(first):
    authority, server = certificates(first["ca.crt"])[0], certificates(first["tls.crt"])[0]
    server.verify_directly_issued_by(authority)
    found = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == NAMES
    assert "CN=aibrix-ca" in authority.subject.rfc4514_string()
    assert server.not_valid_after_utc < authority.not_valid_after_utc


@pytest.mark.parametrize("days", [0, 1, 270])
def test_nothing_is_done_before_it_is_due(first, days):
    assert renewed(first, NAMES, START + days * DAY) is first


def test_the_server_certificate_is_renewed_under_the_same_authority(first):
    later = renewed(first, NAMES, START + 280 * DAY)
    assert later["ca.crt"] == first["ca.crt"]
    assert later["tls.crt"] != first["tls.crt"]


def test_a_new_authority_stands_before_the_old_one(first):
    later = renewed(first, NAMES, START + (3650 - 700) * DAY)
    bundle = certificates(later["ca.crt"])
    assert bundle[1] == certificates(first["ca.crt"])[0]
    certificates(later["tls.crt"])[0].verify_directly_issued_by(bundle[0])
    assert len(certificates(renewed(later, NAMES, START + 3700 * DAY)["ca.crt"])) == 1  # the old one has expired


@pytest.mark.parametrize("entry", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
@pytest.mark.parametrize("value", [b"", b"nonsense"])
def test_what_cannot_be_read_is_made_anew(first, entry, value):
    made = renewed({**first, entry: value}, NAMES, START)
    certificates(made["tls.crt"])[0].verify_directly_issued_by(certificates(made["ca.crt"])[0])
    assert renewed(made, NAMES, START) is made


def test_a_key_that_does_not_fit_and_a_missing_name_are_mended(first):
    other = renewed({}, NAMES, START)
    assert renewed({**first, "tls.key": other["tls.key"]}, NAMES, START) is not first
    assert renewed({**first, "ca.key": other["ca.key"]}, NAMES, START)["ca.crt"] != first["ca.crt"]
    assert renewed(first, [*NAMES, "more.svc"], START) is not first
