"""Certificates: both ends of every connection are verified, and what ends soon or no longer fits is renewed."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.pki import AUTHORITIES, LEAF_LIFE, RENEW_LEAF_BEFORE, Pki, ensure_pki, leaves
from local.settings import LocalSettings

NOW = datetime.now(UTC)


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return LocalSettings(home=tmp_path)


def shake_hands(
    pki: Pki, server: str, client: str, *, client_authority: str, name: str = "127.0.0.1"
) -> dict[str, object]:
    """A TLS connection in which both show certificates; what the server learned about the client."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pki.certificate(server), pki.key(server))
    serving.load_verify_locations(pki.certificate(client_authority))
    serving.verify_mode = ssl.CERT_REQUIRED
    calling = ssl.create_default_context(cafile=str(pki.certificate("etcd-ca" if server == "etcd" else "ca")))
    calling.load_cert_chain(pki.certificate(client), pki.key(client))
    here, there = socket.socketpair()
    seen: dict[str, object] = {}

    def serve() -> None:
        try:
            with serving.wrap_socket(there, server_side=True) as connection:
                seen.update(connection.getpeercert() or {})
                connection.sendall(b"!")
        except ssl.SSLError as error:
            seen["refused"] = error.reason
            there.close()

    server_thread = threading.Thread(target=serve)
    server_thread.start()
    try:
        with calling.wrap_socket(here, server_hostname=name) as connection:
            connection.recv(1)  # TLS 1.3: a refused client certificate shows with the first read
    except (ssl.SSLCertVerificationError, ConnectionError):
        here.close()
        raise
    except ssl.SSLError:
        here.close()
    finally:
        server_thread.join()
    return seen


def test_the_administrator_and_the_api_server_verify_each_other(settings: LocalSettings) -> None:
    pki = ensure_pki(settings, NOW)
    for name in ("127.0.0.1", "localhost", "kubernetes.default.svc", settings.bridge_address, settings.service_address):
        seen = shake_hands(pki, "api-server", "admin", client_authority="ca", name=name)
        assert seen["subject"] == ((("organizationName", "system:masters"),), (("commonName", "brixflow-admin"),))


def test_an_address_that_is_not_the_servers_is_refused(settings: LocalSettings) -> None:
    pki = ensure_pki(settings, NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(pki, "api-server", "admin", client_authority="ca", name="elsewhere")


@pytest.mark.parametrize(
    ("server", "authority", "client"),
    [("etcd", "etcd-ca", "etcd-client"), ("node", "kubelet-client-ca", "kubelet-client")],
)
def test_etcd_and_the_kubelet_api_let_only_the_api_server_in(
    settings: LocalSettings, server: str, authority: str, client: str
) -> None:
    pki = ensure_pki(settings, NOW)
    assert "subject" in shake_hands(pki, server, client, client_authority=authority)
    assert "refused" in shake_hands(pki, server, "admin", client_authority=authority)


def test_a_second_time_changes_nothing(settings: LocalSettings) -> None:
    pki = ensure_pki(settings, NOW)
    before = contents(pki)
    ensure_pki(settings, NOW + timedelta(days=1))
    assert contents(pki) == before


def test_certificates_that_end_soon_are_renewed_and_the_authorities_stay(settings: LocalSettings) -> None:
    pki = ensure_pki(settings, NOW)
    before = contents(pki)
    ensure_pki(settings, NOW + LEAF_LIFE - RENEW_LEAF_BEFORE + timedelta(hours=1))
    renewed = {name for name, content in contents(pki).items() if content != before[name]}
    assert renewed == {f"{leaf.name}{suffix}" for leaf in leaves(settings) for suffix in (".crt", ".key")}


def test_a_renewed_authority_renews_what_it_signed(settings: LocalSettings) -> None:
    pki = ensure_pki(settings, NOW)
    before = contents(pki)
    pki.certificate("etcd-ca").unlink()
    ensure_pki(settings, NOW)
    renewed = {Path(name).stem for name, content in contents(pki).items() if content != before[name]}
    assert renewed == {"etcd-ca", "etcd", "etcd-client"}
    shake_hands(pki, "etcd", "etcd-client", client_authority="etcd-ca")


def test_moved_addresses_renew_only_the_certificates_that_name_them(settings: LocalSettings) -> None:
    pki = ensure_pki(settings, NOW)
    before = contents(pki)
    ensure_pki(replace(settings, service_cidr="10.99.0.0/16"), NOW)
    renewed = {Path(name).stem for name, content in contents(pki).items() if content != before[name]}
    assert renewed == {"api-server"}


def test_files_are_for_their_owner_only(settings: LocalSettings) -> None:
    pki = ensure_pki(settings, NOW)
    assert {path.stat().st_mode & 0o777 for path in pki.directory.iterdir()} == {0o600}
    assert pki.directory.stat().st_mode & 0o777 == 0o700
    assert all(pki.key(name).exists() for name in AUTHORITIES)


def contents(pki: Pki) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pki.directory.iterdir()}
