"""Who may see the page: on loopback whoever is on this machine, beyond it whoever knows the token."""

import hmac
import secrets

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from dwcp_stream.setting_sections import is_loopback

COOKIE = "dwcp_page"
POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Headers of every answer: nothing from elsewhere, no script or style in the page itself, in no frame."""
OPEN = ("/login", "/static/page.css", "/static/icon.svg")
"""Paths that need no token: the form that asks for it, and how it looks."""


@web.middleware
async def strict(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the headers on every answer, errors included."""
    try:
        answer = await handler(request)
    except web.HTTPException as error:
        error.headers.update(POLICY)
        raise
    if not answer.prepared:
        answer.headers.update(POLICY)
    return answer


@web.middleware
async def local_names(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests that came to loopback under another name: a site elsewhere may point its name here."""
    host = request.url.host or ""
    if not is_loopback(host):
        raise web.HTTPForbidden(text="ask for 127.0.0.1 or localhost\n")
    return await handler(request)


class Guard:
    """Lets in whoever brings the token, as bearer token or once in the form, which gives a cookie for it."""

    def __init__(self, token: str) -> None:
        self._token, self._session = token.encode(), secrets.token_urlsafe(32)

    def middleware(self) -> Middleware:
        """Return what looks at each request."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path in OPEN or self._known(request):
                return await handler(request)
            if request.path == "/":
                raise web.HTTPSeeOther("/login")
            raise web.HTTPUnauthorized(text="a token is needed\n", headers={"WWW-Authenticate": "Bearer"})

        return guard

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Take the form."""
        given = (await request.post()).get("token", "")
        if not isinstance(given, str) or not hmac.compare_digest(given.strip().encode(), self._token):
            raise web.HTTPSeeOther("/login?wrong")
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(
            COOKIE, self._session, httponly=True, samesite="Strict", secure=request.secure, max_age=30 * 86_400
        )
        raise answer

    def _known(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)
        cookie = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(cookie.encode("utf-8", "surrogateescape"), self._session.encode())
