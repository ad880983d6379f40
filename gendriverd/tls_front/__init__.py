# SPDX-License-Identifier: MIT
"""The front that ends TLS: a process of its own, started by the daemon as `python -m gendriverd.tls_front`.

It accepts on the sockets that the daemon gives it, shakes hands, sends the daemon one end of a socketpair with who the
client is, and relays between the other end and the client. docs/front-channel.md. It reads what strangers send, so it
has nothing but that: no file, no other socket, no secret but the certificate's key.
"""
