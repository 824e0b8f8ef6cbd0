"""The studio and the watch page: files of ours, as they are, and nothing from elsewhere."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from aiohttp import web

from relay.api.routes import expectation
from relay.errors import NotFound

WEB = Path(__file__).with_name("web")

# Everything a page loads is ours; a clip that the streamer picks is a blob.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self' blob: mediastream:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), microphone=(self), autoplay=(self), fullscreen=(self)",
    "Cache-Control": "no-cache",
}
_TYPES = {".js": "text/javascript", ".webp": "image/webp", ".svg": "image/svg+xml"}


class Pages:
    """Serves ``web/``. The files are listed once: no address can name another."""

    def __init__(self) -> None:
        self._files = {
            path.relative_to(WEB).as_posix(): path for path in WEB.rglob("*") if path.is_file()
        }

    async def studio(self, _: web.Request) -> web.StreamResponse:
        return self._file("index.html")

    async def watch(self, _: web.Request) -> web.StreamResponse:
        return self._file("watch.html")

    async def asset(self, request: web.Request) -> web.StreamResponse:
        return self._file(request.match_info["file"])

    def _file(self, name: str) -> web.StreamResponse:
        path = self._files.get(name)
        if path is None:
            raise NotFound("There is nothing at this address.")
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
        answer = web.FileResponse(path, headers=_HEADERS)
        answer.content_type = kind or "application/octet-stream"
        return answer

    def attach(self, app: web.Application) -> None:
        for path, handler in (
            ("/", self.studio),
            ("/watch/{name}", self.watch),
            ("/web/{file:.+}", self.asset),
        ):
            app.router.add_get(path, handler, expect_handler=expectation)
