# SPDX-License-Identifier: MIT
"""The files of [tls]: read by the daemon, tried before they are believed, and passed to the front as sealed memory.

So the front needs no file, and a certificate that no client would take is one sentence at the start or at a reload.
"""

from __future__ import annotations

import fcntl
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gendriverd.errors import ConfigError, ExitCode
from gendriverd.etf import Atom, Term
from gendriverd.key_file import WRITERS, find, read_file
from gendriverd.schema import TlsConfig
from gendriverd.tls_context import EncryptedKeyError, make_context, names_of, of_descriptor

FILE_MAX = 1024 * 1024  # bytes
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
LEAF = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Material:
    """What the front needs to serve new clients. `until`: the last moment of the certificate, as OpenSSL writes it;
    `names`: of the certificate.
    """

    certificate: bytes
    key: bytes
    ca: bytes | None
    config: TlsConfig
    until: str = ""
    names: tuple[str, ...] = ()

    def about(self) -> dict[Term, Term]:
        """The map of {start, N, Map} and {renew, Map}: docs/front-channel.md."""
        return {
            Atom("clients"): Atom(self.config.clients),
            Atom("handshake_ms"): round(self.config.handshake_timeout * 1000),
            Atom("handshake_pending"): self.config.handshake_pending,
            Atom("connections"): self.config.connections,
        }

    @contextmanager
    def files(self) -> Iterator[list[int]]:
        """Descriptors of certificate, key and, if there is one, the clients' authorities. Raises OSError."""
        with ExitStack() as stack:
            fds = []
            for data in (self.certificate, self.key, *(() if self.ca is None else (self.ca,))):
                fds.append(_sealed(data))
                stack.callback(os.close, fds[-1])
            yield fds


def read_material(config: TlsConfig, directory: Path, environ: Mapping[str, str]) -> Material | None:
    """None: no certificate is configured. It may block. Raises ConfigError with a line for all that will not do."""
    if not config.certificate:
        return None
    read: dict[str, bytes] = {}
    places: dict[str, Path] = {}
    problems: list[ConfigError] = []
    for name in ("certificate", "key", "client_ca"):
        try:
            if file := getattr(config, name):
                places[name], others = find(file, directory, environ)
                read[name] = _read(places[name], others if name == "key" else WRITERS)
        except ConfigError as error:
            problems.append(ConfigError([f"[tls] {name}: {line}" for line in error.problems], error.exit_code))
    if problems:
        raise ConfigError([line for each in problems for line in each.problems], problems[0].exit_code)
    return _tried(Material(read["certificate"], read["key"], read.get("client_ca"), config), places)


def _read(path: Path, others: int) -> bytes:
    data = read_file(path, "file", FILE_MAX, others=others)
    if len(data) > FILE_MAX:
        raise ConfigError([f"file {path}: has more than {FILE_MAX} bytes"])
    return data


def _tried(material: Material, places: Mapping[str, Path]) -> Material:
    """A client that trusts this certificate is let in by it: in memory, with nobody on the other side but us."""
    leaf = LEAF.search(material.certificate)
    if leaf is None:
        raise ConfigError([f"[tls] certificate: file {places['certificate']}: holds no certificate in PEM"])
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=leaf[0].decode("ascii", "replace"))
    except ssl.SSLError:
        raise ConfigError([f"[tls] certificate: file {places['certificate']}: holds no certificate in PEM"]) from None
    try:
        server = _server(material, places)
    except OSError as error:  # no descriptor, or no memory, is left for them
        raise ConfigError([f"[tls]: its files cannot be tried: {error.strerror}"], ExitCode.UNAVAILABLE) from error
    try:
        about = _shake(client, server)
    except ssl.SSLCertVerificationError as error:
        raise ConfigError([f"[tls] certificate: file {places['certificate']}: {error.verify_message}"]) from None
    return replace(material, until=str(about.get("notAfter", "")), names=tuple(names_of(about)))


def _server(material: Material, places: Mapping[str, Path]) -> ssl.SSLContext:
    """With the whole of it, once; what is returned asks for no client's certificate. Raises ConfigError, OSError."""
    key = f"[tls] key: file {places['key']}"
    with material.files() as fds:
        certificate_path, key_path, *ca = map(of_descriptor, fds)
        try:
            server = make_context(certificate_path, key_path, None, "none")
        except EncryptedKeyError:
            raise ConfigError([f"{key}: is encrypted, and there is nobody to ask for its passphrase"]) from None
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError([f"{key}: is not that of the certificate {places['certificate']}"]) from None
            if error.reason in {None, "PEM_LIB", "NO_START_LINE"}:
                raise ConfigError([f"{key}: holds no private key in PEM"]) from None
            raise ConfigError([f"[tls] certificate: file {places['certificate']}: {_words(error)}"]) from None
        try:
            make_context(certificate_path, key_path, ca[0] if ca else None, material.config.clients)
        except ssl.SSLError:
            raise ConfigError([f"[tls] client_ca: file {places['client_ca']}: holds no certificate in PEM"]) from None
    return server


def _shake(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    """What the server's certificate says. Raises SSLCertVerificationError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    for end in (ends[0], ends[1], ends[0]):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ends[0].getpeercert() or {}


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _sealed(data: bytes) -> int:
    """Memory that is a file, and that nobody can change. Raises OSError."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd
