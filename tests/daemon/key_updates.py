# SPDX-License-Identifier: MIT
"""A client of TLS that changes its key as often as it likes, which Python's ssl cannot: OpenSSL by hand.

It does no I/O, and trusts whoever answers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes.util import find_library

_ssl = ctypes.CDLL(find_library("ssl"))
_crypto = ctypes.CDLL(find_library("crypto"))
for _function in (_ssl.TLS_client_method, _ssl.SSL_CTX_new, _ssl.SSL_new, _crypto.BIO_s_mem, _crypto.BIO_new):
    _function.restype = ctypes.c_void_p
P = ctypes.c_void_p


class KeyUpdater:
    def __init__(self) -> None:
        self._context = P(_ssl.SSL_CTX_new(P(_ssl.TLS_client_method())))
        self._tls = P(_ssl.SSL_new(self._context))
        self._incoming, self._outgoing = (P(_crypto.BIO_new(P(_crypto.BIO_s_mem()))) for _ in range(2))
        _ssl.SSL_set_bio(self._tls, self._incoming, self._outgoing)  # which are its own from now on
        _ssl.SSL_set_connect_state(self._tls)
        self.shaken = False

    def __del__(self) -> None:
        _ssl.SSL_free(self._tls)
        _ssl.SSL_CTX_free(self._context)

    def shake(self, data: bytes) -> bytes:
        """What came; what is to be sent. Begins with none."""
        _crypto.BIO_write(self._incoming, data, len(data))
        self.shaken = _ssl.SSL_do_handshake(self._tls) == 1
        return self._said()

    def encrypt(self, data: bytes) -> bytes:
        if data:
            assert _ssl.SSL_write(self._tls, data, len(data)) == len(data)
        return self._said()

    def decrypt(self, data: bytes) -> bytes:
        """All that is whole in it."""
        _crypto.BIO_write(self._incoming, data, len(data))
        return _all(_ssl.SSL_read, self._tls)

    def update(self, times: int) -> bytes:
        """So many records, each of which changes our key; the other side need not change its own."""
        for _ in range(times):
            assert _ssl.SSL_key_update(self._tls, 0) == 1
            assert _ssl.SSL_do_handshake(self._tls) == 1
        return self._said()

    def _said(self) -> bytes:
        return _all(_crypto.BIO_read, self._outgoing)


def _all(read: Callable[..., int], whose: ctypes.c_void_p) -> bytes:
    found, room = b"", ctypes.create_string_buffer(65536)
    while (size := read(whose, room, len(room))) > 0:
        found += room.raw[:size]
    return found
