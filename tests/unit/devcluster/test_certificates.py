"""Certificates that Kubernetes accepts: who is who, and for which names."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from kaito.devcluster.certificates import CertificateAuthority, KeyPair, write_private, write_service_account_keys


def parse(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate_pem)


def builder(authority: CertificateAuthority) -> verification.PolicyBuilder:
    return verification.PolicyBuilder().store(
        verification.Store([x509.load_pem_x509_certificate(authority.certificate_pem)])
    )


def test_a_client_certificate_carries_user_and_groups() -> None:
    authority = CertificateAuthority()
    subject = parse(authority.issue_client("system:kaito", ["system:masters", "b"])).subject
    assert [each.value for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:kaito"]
    groups = {each.value for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
    assert groups == {"system:masters", "b"}


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_serving_certificate_holds_for_its_names_and_its_authority_only(name: str) -> None:
    authority = CertificateAuthority()
    certificate = parse(authority.issue_server(["127.0.0.1", "localhost"]))
    subject = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    builder(authority).build_server_verifier(subject).verify(certificate, [])
    with pytest.raises(verification.VerificationError):
        builder(CertificateAuthority()).build_server_verifier(subject).verify(certificate, [])
    with pytest.raises(verification.VerificationError):
        builder(authority).build_server_verifier(x509.DNSName("elsewhere")).verify(certificate, [])


def test_a_client_certificate_does_not_serve() -> None:
    authority = CertificateAuthority()
    with pytest.raises(verification.VerificationError):
        builder(authority).build_server_verifier(x509.DNSName("kaito")).verify(
            parse(authority.issue_client("kaito")), []
        )


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    pair = CertificateAuthority().issue_client("kaito")
    pair.write(tmp_path / "crt", tmp_path / "key")
    key = load_pem_private_key((tmp_path / "key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == x509.load_pem_x509_certificate((tmp_path / "crt").read_bytes()).public_key()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_service_account_keys_are_a_pair(tmp_path: Path) -> None:
    write_service_account_keys(tmp_path / "pub", tmp_path / "key")
    key = load_pem_private_key((tmp_path / "key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == load_pem_public_key((tmp_path / "pub").read_bytes())


def test_a_private_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("an older and longer secret")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]
