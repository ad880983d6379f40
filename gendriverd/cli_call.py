# SPDX-License-Identifier: MIT
"""`gendriverd call`: one call from the command line, in Erlang's syntax both ways."""

from __future__ import annotations

import io
import re
import ssl
import sys
from pathlib import Path

from gendriverd import erlterm
from gendriverd.client.outcomes import CallTimeout, ClientError, Failed, Refused, UnknownCommand, Unreachable
from gendriverd.client.protocol import CONNECT_TIMEOUT
from gendriverd.client.sync import connect
from gendriverd.client.tls import SCHEME
from gendriverd.errors import ConfigError
from gendriverd.etf import Atom, EtfError, Term
from gendriverd.key_file import read_key_file

# sysexits.h
EX_ERROR, EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_SOFTWARE, EX_IOERR, EX_TEMPFAIL = 1, 2, 65, 69, 70, 74, 75


def run_call(
    url: str,
    instance: str,
    cmd: str,
    term: str | None,
    timeout: float | None,
    key: int | None,
    cast: bool,
    key_file: tuple[str, Path] | None = None,
    tls: ssl.SSLContext | None = None,
) -> int:
    """Print the reply; the exit code.

    0: any reply, or a cast handed over; 1: the driver answered {error, ..}; 2: a malformed address, or an unknown
    command; 65: a malformed term, or one the service does not take; 69: nobody answers, or the instance is not there;
    74: the reply came and could not be written; 75: it never started, try again; 70: it may have run and failed, or it
    never started and trying again is no use. Raises ConfigError for a key file that will not do.
    """
    try:
        params = None if term is None else _said(erlterm.parse(term))
        number: int | str = int(cmd) if re.fullmatch("-?[0-9]+", cmd) else cmd
        secret = None if key_file is None else (key_file[0], read_key_file(key_file[1]))
        with connect(url, instance, connect_timeout=timeout or CONNECT_TIMEOUT, key=secret, tls=tls) as client:
            if cast:
                client.cast(number, params, key=key)
                return 0
            answer = client.call(number, params, timeout=timeout, key=key)
    except (erlterm.SyntaxProblem, EtfError) as exc:
        return _say(EX_DATAERR, f"{term!r:.80}: {exc}")
    except (Unreachable, Refused) as exc:
        return _say(EX_UNAVAILABLE, str(exc))
    except UnknownCommand as exc:
        return _say(EX_USAGE, str(exc))
    except CallTimeout as exc:
        return _say(EX_SOFTWARE, f"{instance} {cmd}: {exc}")
    except Failed as exc:
        again = exc.retryable and exc.reason not in {"bad_request", "quarantined", "forbidden"}
        because = f": {exc.__cause__}" if exc.__cause__ is not None else ""
        return _say(EX_TEMPFAIL if again else EX_SOFTWARE, f"{instance} {cmd}: {exc}{because}")
    except ClientError as exc:  # larger than a frame may be
        return _say(EX_DATAERR, str(exc))
    except ValueError as exc:
        return _say(EX_USAGE, str(exc))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(erlterm.format(answer), flush=True)
    except BrokenPipeError:
        raise
    except OSError as exc:
        return _say(EX_IOERR, f"the reply cannot be written: {exc.strerror}")
    return EX_ERROR if _is_error(answer) else 0


def trusted(url: str, ca: Path | None, cert: Path | None) -> ssl.SSLContext | None:
    """What --ca and --cert say. Raises ConfigError for files that will not do, and where the address is none of TLS."""
    if ca is None and cert is None:
        return None
    if not url.startswith(SCHEME):
        raise ConfigError([f"--ca and --cert are for addresses such as 'tls://example.com:9901', not {url!r}"])
    try:
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if cert is not None:
            context.load_cert_chain(cert)
    except OSError as error:
        files = " and ".join(str(file) for file in (ca, cert) if file is not None)
        raise ConfigError([f"{files}: {error.strerror or 'not what is wanted: certificates, a key, in PEM'}"]) from None
    return context


def _said(term: Term) -> Term:
    """undefined was said; the client's None would be nothing."""
    return Atom("undefined") if term is None else term


def _is_error(answer: Term) -> bool:
    return isinstance(answer, tuple) and len(answer) == 2 and answer[0] == "error"


def _say(code: int, text: str) -> int:
    """A service's words may be in it."""
    from gendriverd.log import clean_text

    print(clean_text(f"gendriverd call: {text}"), file=sys.stderr)
    return code
