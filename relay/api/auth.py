"""Who asks: bearer tokens, the publish key, and requests that other sites trigger."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from relay.config import Gateway, is_loopback
from relay.errors import Forbidden, Unauthorized
from relay.policy.gate import Gate


def token(request: web.Request) -> str | None:
    """The bearer token of a request, or None.

    The scheme's case does not matter, and a bare token counts as one: some encoders
    send it so. Another scheme is a token that fits nothing.
    """
    header = request.headers.get("Authorization", "").strip()
    if not header:
        return None
    scheme, _, rest = header.partition(" ")
    if not rest:
        return None if scheme.lower() == "bearer" else scheme
    return rest.strip() if scheme.lower() == "bearer" else header


def fits(settings: Gateway, offered: str | None) -> bool:
    """Whether ``offered`` is the publish key; always, when there is none."""
    try:
        Gate(settings.publish_key).check(offered)
    except Unauthorized:
        return False
    return True


def require_key(request: web.Request, settings: Gateway) -> None:
    """Refuse a change that comes without the publish key.

    Raises:
        Unauthorized: a key is set, and the request has none or another.
        Forbidden: no key is set, and another site's page asks.
    """
    if settings.publish_key is None and foreign(request, settings):
        raise _cross_origin()
    Gate(settings.publish_key).check(token(request))


def may_see_details(request: web.Request, settings: Gateway) -> bool:
    """Whether a request may read more of a stream than a viewer needs.

    Where there is a key, whoever holds it: also on a gateway that only this machine
    reaches, for a proxy on it may bring anybody. Without one all may, as long as no other
    site's page asks.
    """
    if settings.publish_key is not None:
        return fits(settings, token(request))
    return not foreign(request, settings)


def is_local(settings: Gateway) -> bool:
    """Whether only this machine reaches the gateway."""
    return is_loopback(settings.host) and settings.public_url is None


def require_details(request: web.Request, settings: Gateway) -> None:
    """Raises: Unauthorized or Forbidden when the request may not read details."""
    if may_see_details(request, settings):
        return
    if settings.publish_key is None:
        raise _cross_origin()
    Gate(settings.publish_key).check(token(request))


def foreign(request: web.Request, settings: Gateway) -> bool:
    """Whether a browser page of another site may be behind a request.

    Its ``Origin`` then is not ours; or, on a gateway that only this machine reaches,
    the ``Host`` is a name that somebody else's DNS made point here.
    """
    host = _authority(request.host)
    ours = {host}
    if settings.public_url is not None:
        ours.add(_authority(urlsplit(settings.public_url).netloc))
    elif is_loopback(settings.host) and not is_loopback(_name(host)):
        return True
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    try:
        return _authority(urlsplit(origin).netloc) not in ours
    except ValueError:
        return True  # no browser writes such an address, and it is not ours


def _authority(text: str) -> str:
    """Lower case, without the port where it is the scheme's own."""
    return text.lower().removesuffix(":80").removesuffix(":443")


def _name(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _cross_origin() -> Forbidden:
    return Forbidden(
        "Pages of other sites, and other names of this machine, need a gateway with a "
        "publish key or with its public_url set.",
        code="cross_origin",
    )
