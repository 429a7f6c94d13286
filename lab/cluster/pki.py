"""The lab's certificate authority: server and client certificates, and the key that signs service account tokens."""

import datetime
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=30)
# Clocks of machines that share a directory may differ slightly.
CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files of a certificate and its private key, both PEM, readable only by their owner."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates and writes them to a directory."""

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.directory = directory
        self.certificate = directory / "ca.crt"
        self._key = key
        self._root = certificate

    @classmethod
    def create(cls, directory: Path, name: str = "overlay-net lab") -> Self:
        """A new authority; its certificate is written to `ca.crt`, its key is only kept in memory."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        root = (
            _builder(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_private(directory / "ca.crt", root.public_bytes(serialization.Encoding.PEM))
        return cls(directory, key, root)

    def issue_server(self, name: str, hosts: Iterable[str]) -> Certificate:
        """A server certificate for host names and IP addresses."""
        alternatives = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._issue(name, name, (), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def issue_client(self, name: str, user: str, groups: Sequence[str] = ()) -> Certificate:
        """A client certificate for Kubernetes: common name = user, organizations = groups."""
        return self._issue(name, user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _issue(
        self,
        name: str,
        common_name: str,
        organizations: Sequence[str],
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
            + [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        )
        builder = _builder(subject, self._root.subject, key).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if alternatives:
            builder = builder.add_extension(alternatives, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        issued = Certificate(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        write_private(issued.certificate, signed.public_bytes(serialization.Encoding.PEM))
        write_private(issued.key, _private_pem(key))
        return issued


def write_signing_key(directory: Path, name: str = "service-account") -> tuple[Path, Path]:
    """A key pair for signing tokens; returns the files of the private and the public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / f"{name}.key", directory / f"{name}.pub"
    write_private(private, _private_pem(key))
    write_private(
        public,
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    return private, public


def write_private(path: Path, content: bytes) -> None:
    """Write a file that is never readable by other users."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a mode
        file.write(content)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Go accepts SEC 1 and PKCS 8; `openssl genpkey` writes PKCS 8.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
