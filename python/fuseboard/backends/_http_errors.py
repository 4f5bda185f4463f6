"""What failures of HTTP are called: clients' and sockets' exceptions as answers, with reasons that a guest may read."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpcore2
import httpx2

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode

CONNECT_FAILURES: Final = (httpcore2.ConnectError, httpcore2.ConnectTimeout)
"""After which another address may be tried."""


@contextmanager
def errors_as_answers() -> Iterator[None]:
    """Have what clients and sockets raise answered, with words that tell a guest nothing of the inside."""
    try:
        yield
    except httpcore2.PoolTimeout as error:
        raise BackendTimeout("all of this plugin's connections were in use until the deadline") from error
    except (httpcore2.TimeoutException, TimeoutError) as error:
        raise BackendTimeout("there was no answer before the deadline") from error
    except httpcore2.ConnectError as error:
        raise BackendError(_why_unconnected(error)) from error
    except (httpcore2.LocalProtocolError, httpx2.InvalidURL) as error:
        raise BackendError("the request can't be written as HTTP/1.1", code=AnswerCode.BAD_REQUEST) from error
    except httpx2.DecodingError as error:
        raise BackendError("the body isn't encoded as its Content-Encoding says") from error
    except httpcore2.ProtocolError as error:
        raise BackendError("the server broke off, or doesn't speak HTTP/1.1") from error
    except (httpcore2.NetworkError, OSError) as error:
        raise BackendError("the connection broke") from error


def _why_unconnected(error: httpcore2.ConnectError) -> str:
    match error.args[0] if error.args else None:
        case ssl.SSLCertVerificationError() as cause:
            return f"the server's certificate can't be trusted: {cause.verify_message}"
        case ssl.SSLError():
            return "no secure connection can be made: the server doesn't speak TLS as we do"
        case _:
            return "no connection can be made"
