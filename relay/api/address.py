"""The addresses that we hand out, and the ones that name a rendition."""

from __future__ import annotations

import re
from urllib.parse import quote

from aiohttp import web

from relay.config import Gateway, IceServer
from relay.errors import NotFound
from relay.gateway import places

_REQUEST = re.compile(r"(?P<name>.+)-(?P<request>[0-9a-f]{8})")


def base(request: web.Request, settings: Gateway) -> str:
    """Scheme and authority under which the asking client reaches us.

    From the settings, else from the address that its connection really has: a
    ``Host`` header may say anything.
    """
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    name = request.transport.get_extra_info("sockname") if request.transport else None
    if name is None:
        return f"http://{settings.host}:{settings.port}"
    host, port = name[0], name[1]
    if ":" in host:
        host = f"[{host}]"
    scheme = "https" if request.secure else "http"
    return f"{scheme}://{host}:{port}"


def session(settings: Gateway, session_id: str) -> str:
    """``Location`` of a session: path-absolute, or absolute where the base is set.

    Encoders in the field misread path-relative ones and drop queries.
    """
    path = f"/session/{quote(session_id, safe='')}"
    return path if settings.public_url is None else settings.public_url.rstrip("/") + path


def playback(base_url: str, name: str, request_id: str) -> str:
    """The network's address of what a stream start sends out."""
    return places.playback(base_url, name, request_id)


def parse_playback(element: str) -> tuple[str, str | None, str | None]:
    """Take apart the path element of the network's WHEP address.

    Returns:
        The whole name it may mean, and, where it has the shape of one that names a
        stream start, that name and request id. Names may contain dashes, so only the
        streams that exist can tell which is meant.

    Raises:
        NotFound: it does not end in ``-out``.
    """
    name = element.removesuffix("-out")
    if name == element or not name:
        raise NotFound("A playback address ends in -out/whep.", code="bad_playback")
    found = _REQUEST.fullmatch(name)
    return (name, found["name"], found["request"]) if found else (name, None, None)


def ice_link(server: IceServer) -> str:
    """One ``Link`` value (RFC 9725 section 4.6), parameters in the order clients expect."""
    link = f'<{server.url}>; rel="ice-server"'
    if server.username is not None:
        link += f'; username="{_quoted(server.username)}"'
    if server.credential is not None:
        link += f'; credential="{_quoted(server.credential)}"; credential-type="password"'
    return link


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def whip(base_url: str, name: str) -> str:
    return f"{base_url}/whip/{quote(name)}"


def whep(base_url: str, name: str) -> str:
    return f"{base_url}/whep/{quote(name)}"


def watch(base_url: str, name: str) -> str:
    return f"{base_url}/watch/{quote(name)}"
