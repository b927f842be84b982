"""Certificates of devices, modules and servers, in files as the SDKs want them."""

import datetime
import hashlib
import ipaddress

from azure.iot.device import X509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM


class SelfSigned:
    """A device certificate that vouches for itself."""

    def __init__(self, directory, name):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, name, key)
        der = certificate.public_bytes(serialization.Encoding.DER)
        self.sha1 = hashlib.sha1(der).hexdigest().upper()
        self.sha256 = hashlib.sha256(der).hexdigest().upper()
        self.files = _files(directory, self.sha1, key, certificate)


class Authority:
    """A CA with an intermediate below it, which signs the certificates of devices."""

    def __init__(self, directory, name):
        self._directory = directory
        root_key, self._key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self._name = f"{name} intermediate"
        root = _certificate(name, root_key, name, root_key, ca=True)
        self._certificate = _certificate(self._name, self._key, name, root_key, ca=True)
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(root.public_bytes(PEM))

    def files(self, name, address=None):
        """A certificate for the name, and the IP address of a server, and the chain up to the CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, self._name, self._key, address=address)
        return _files(self._directory, name, key, certificate, self._certificate)


def _certificate(name, key, issuer, issuer_key, ca=False, address=None):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name)).issuer_name(_name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _files(directory, stem, key, *chain):
    certificate_file, key_file = directory / f"{stem}.pem", directory / f"{stem}.key"
    certificate_file.write_bytes(b"".join(certificate.public_bytes(PEM) for certificate in chain))
    key_file.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return X509(str(certificate_file), str(key_file))
