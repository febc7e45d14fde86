"""Certificates made in a test: an authority, and what it signs, as the PEM files that Kafka and its clients read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """One authority. Each of its certificates is a file that holds the certificate and its private key."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _subject(name)
        made = _building(self._subject, self._subject, self._key, days=2)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def signed(self, name: str, *, days: float = 2, locked_by: str | None = None) -> Path:
        """A certificate and its key.

        Args:
            name: whose it is: the common name, and the host that it is for.
            days: how long it is valid from now on; below 0 it has expired.
            locked_by: the password that the key is encrypted with.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        made = _building(_subject(name), self._subject, key, days)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        certificate = made.sign(self._key, hashes.SHA256())
        how = serialization.BestAvailableEncryption(locked_by.encode()) if locked_by else serialization.NoEncryption()
        file = self._folder / f"{self._name}-{name}-{days}.pem"
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _building(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
    )
