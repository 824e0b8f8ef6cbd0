"""The body of another node's request: bounded in size and time."""

from __future__ import annotations

import asyncio

from aiohttp import web

from relay.errors import BadInput, TooLarge


async def read(request: web.Request, *, limit: int, within: float) -> bytes:
    """
    Args:
        limit: bytes; the application's ``client_max_size`` is not above it.
        within: seconds in which all of it comes.

    Raises:
        TooLarge: over the limit, said before it was read where the length is told.
        BadInput: ``slow_body``, ``bad_body``: it does not come in time, or not whole.
    """
    if (request.content_length or 0) > limit:
        raise TooLarge(f"a body of more than {limit} bytes")
    try:
        async with asyncio.timeout(within):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"a body of more than {limit} bytes") from error
    except TimeoutError as error:
        raise BadInput("the body did not come in time", code="slow_body") from error
    except web.RequestPayloadError as error:
        raise BadInput("the body breaks off or is badly framed", code="bad_body") from error
