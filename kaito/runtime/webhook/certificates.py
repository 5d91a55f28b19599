"""Certificates: authorities and serving certificates (ECDSA P-256), and TLS contexts made of them without files."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLOCK_SKEW = timedelta(hours=1)
"""How far a clock elsewhere may be behind ours; certificates are valid from so long before they were made."""


class CertificateError(Exception):
    """There is no usable certificate; the text names what was looked at, and what to do."""


_COMMON_NAME = 64  # characters that X.509 has for one


@dataclass(frozen=True)
class KeyPair:
    """A certificate, others that complete its chain after it, and its private key; PEM. The key shows in no repr."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def parsed(self) -> x509.Certificate:
        """The certificate itself.

        Raises:
            CertificateError: it is none.
        """
        return parse(self.certificate)[0]

    @property
    def expires(self) -> datetime:
        """When it ends."""
        return self.parsed.not_valid_after_utc


def new_authority(name: str, now: datetime, lifetime: timedelta) -> KeyPair:
    """Makes a certificate authority that may sign serving certificates and no authorities.

    Args:
        name: its common name.
        now: from when.
        lifetime: for how long.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # OpenSSL finds the authority of a certificate by its name, and takes the wrong one of two that share theirs.
    serial = x509.random_serial_number()
    subject = _name(f"{name[: _COMMON_NAME - 17]} {serial:016x}"[:_COMMON_NAME])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(subject, subject, key.public_key(), now, now + lifetime).serial_number(serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: KeyPair, names: Sequence[str], now: datetime, lifetime: timedelta) -> KeyPair:
    """Makes a serving certificate, which ends no later than its authority.

    Args:
        authority: who signs.
        names: host names and IP addresses that it is for; at least one.
        now: from when.
        lifetime: for how long.
    """
    signer, signer_key = authority.parsed, _private(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + lifetime, signer.not_valid_after_utc)
    builder = _builder(_name(names[0][:_COMMON_NAME]), signer.subject, key.public_key(), now, end)
    builder = (
        builder.serial_number(x509.random_serial_number())
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([*map(general_name, names)]), critical=False)
    )
    return _pair(builder.sign(signer_key, hashes.SHA256()), key)


def parse(pem: bytes) -> list[x509.Certificate]:
    """Reads certificates.

    Raises:
        CertificateError: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError(f"no PEM certificate ({error})") from error


def names_of(certificate: x509.Certificate) -> frozenset[str]:
    """The host names and addresses that a certificate is for.

    Raises:
        CertificateError: its extensions cannot be read.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertificateError(f"a certificate's extensions cannot be read ({error})") from error
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return frozenset([*found.get_values_for_type(x509.DNSName), *addresses])


def fingerprint(certificate: x509.Certificate) -> bytes:
    """What tells certificates apart."""
    return certificate.fingerprint(hashes.SHA256())


def pem_of(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def server_context(pair: KeyPair) -> ssl.SSLContext:
    """A TLS context (1.2 and newer) that serves a certificate.

    OpenSSL reads keys from files only: this one is in memory, or gone as soon as it was read.

    Raises:
        CertificateError: the certificate and the key do not belong together, or are none.
    """
    context = empty_context()
    with _readable(pair.certificate + b"\n" + pair.key) as path:
        try:
            context.load_cert_chain(path, password=_refuse_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise CertificateError(f"certificate and key are not PEM, or do not belong together ({error})") from error
    return context


def empty_context() -> ssl.SSLContext:
    """A server's context without a certificate: every handshake fails until one comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class SwappableContext:
    """A TLS context whose certificate can be replaced at any moment: handshakes begun later get the new one.

    Each certificate has a context of its own, since OpenSSL keeps one certificate per type of key in a context: an RSA
    certificate would go on being served beside the ECDSA one that replaced it.
    """

    def __init__(self) -> None:
        self.context = empty_context()
        self._current: ssl.SSLContext | None = None
        # Called for each handshake, those that name no host (connections to an address) included.
        self.context.sni_callback = self._choose

    def load(self, pair: KeyPair) -> None:
        """Serves a certificate from now on.

        Raises:
            CertificateError: it is unusable, and the one before stays.
        """
        self._current = server_context(pair)

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _host: str | None, _context: ssl.SSLContext) -> None:
        if self._current is not None:
            connection.context = self._current


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(pem_of(certificate), private)


def _private(pair: KeyPair) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"no PEM key ({error})") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"the authority's key is {type(key).__name__}; expected one for ECDSA")
    return key


def check_pair(pair: KeyPair) -> None:
    """Makes sure that a certificate and a key of ours belong together.

    Raises:
        CertificateError: they do not.
    """
    try:
        public = pair.parsed.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"a certificate has no key that is known here ({error})") from error
    if public != _private(pair).public_key():
        raise CertificateError("the certificate and the key do not belong together")


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def general_name(name: str) -> x509.GeneralName:
    """A host name or an address, as certificates have it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _refuse_password() -> str:
    raise ValueError("the key is encrypted; expected one without a password")  # or OpenSSL asks on the terminal


@contextlib.contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """A path under which OpenSSL reads the content: memory where Linux has it, else a private file, removed at once."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile(prefix="certificate-") as file:  # mode 0600
        file.write(content)
        file.flush()
        yield file.name
