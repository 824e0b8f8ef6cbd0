"""The one exception tree. No foreign exception crosses the boundary of a room.

::

    RelayError
    ├── BadInput              400  what we were sent cannot be understood
    │   └── ParseError        400  bytes that break their own format
    ├── Unauthorized          401  a credential is missing or unknown
    ├── Forbidden             403  a good credential for something else
    ├── NotFound              404  no such stream, session or page
    ├── Conflict              409  somebody else holds it
    ├── Gone                  410  it was here, and has ended
    ├── PreconditionFailed    412  a stale entity tag
    ├── TooLarge              413  over a bound
    ├── UnsupportedMedia      415  another content type
    ├── Unprocessable         422  understood, and cannot be served
    ├── PreconditionRequired  428  an If-Match header is needed
    ├── RateLimited           429  too often
    ├── NotOffered            501  known to the network, and not done here
    ├── Unavailable           503  no capacity, or going away
    ├── ConfigError                a setting is wrong (command line exit 2)
    └── PeerError             502  another node failed us
        ├── PeerTimeout       504  it did not answer in time
        ├── PeerRefused       502  it answered no
        ├── ChannelClosed     502  a trickle channel is gone (404 or closed)
        └── SegmentGone       502  a trickle segment is gone (470)

``code`` is stable and made for programs; the message is made for people.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

_SSL_OBJECT: Final = re.compile(r" ssl:(?:<[^>]*>|\w+)")
_OPENSSL_LINE: Final = re.compile(r" \(_ssl\.c:\d+\)")


def foreign_words(error: BaseException) -> str:
    """What a library's error says to a person: without its objects' addresses and the lines
    of its source; never empty."""
    text = _OPENSSL_LINE.sub("", _SSL_OBJECT.sub("", str(error)))
    return text or type(error).__name__


class RelayError(Exception):
    """Base of everything we raise on purpose.

    Attributes:
        status: the HTTP status that an API answers with.
        code: a stable, lower-case word with underscores.
        retry_after: seconds after which a retry makes sense, or None.
        details: what those who run the node may read beside the message: other nodes'
            addresses, prices.
    """

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retry_after: int | None = None,
        details: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.retry_after = retry_after
        self.details = details


class BadInput(RelayError):
    status = 400
    default_code = "bad_input"


class ParseError(BadInput):
    default_code = "parse_error"


class Unauthorized(RelayError):
    status = 401
    default_code = "unauthorized"


class Forbidden(RelayError):
    status = 403
    default_code = "forbidden"


class NotFound(RelayError):
    status = 404
    default_code = "not_found"


class Conflict(RelayError):
    status = 409
    default_code = "conflict"


class Gone(RelayError):
    status = 410
    default_code = "gone"


class PreconditionFailed(RelayError):
    status = 412
    default_code = "precondition_failed"


class TooLarge(RelayError):
    status = 413
    default_code = "too_large"


class UnsupportedMedia(RelayError):
    status = 415
    default_code = "unsupported_media_type"


class Unprocessable(RelayError):
    status = 422
    default_code = "unprocessable"


class PreconditionRequired(RelayError):
    status = 428
    default_code = "precondition_required"


class RateLimited(RelayError):
    status = 429
    default_code = "rate_limited"


class NotOffered(RelayError):
    status = 501
    default_code = "not_offered"


class Unavailable(RelayError):
    status = 503
    default_code = "unavailable"


class ConfigError(RelayError):
    default_code = "config"


class PeerError(RelayError):
    status = 502
    default_code = "peer_failed"


class PeerTimeout(PeerError):
    status = 504
    default_code = "peer_timeout"


class PeerRefused(PeerError):
    default_code = "peer_refused"


class ChannelClosed(PeerError):
    default_code = "channel_closed"


class SegmentGone(PeerError):
    """A 470: the channel exists, the segment does not.

    Attributes:
        latest: the next sequence number that the server will accept.
    """

    default_code = "segment_gone"

    def __init__(self, message: str, *, latest: int) -> None:
        super().__init__(message)
        self.latest = latest
