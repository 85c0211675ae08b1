"""Who may see the page: this machine's own user, or whoever knows the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

MIN_TOKEN = 16

_HOW = (
    "make one with: python -c 'import secrets; print(secrets.token_urlsafe())', "
    "give it as --token, and open the page once as /?token=…"
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_POLICY_VIOLATION = 1008


def is_loopback(host: str) -> bool:
    """Whether a host name or address, with or without brackets, is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_binding(host: str, token: str | None) -> None:
    """Refuse an address that others can reach unless a token is asked for.

    Raises:
        ValueError: such an address without a token, or a token that is easily guessed or that no
            header can carry.
    """
    if token is None:
        if not is_loopback(host):
            raise ValueError(
                f"the page on {host} could be seen by others than you: bind it to 127.0.0.1, or "
                f"ask for a token; {_HOW}"
            )
    elif len(token) < MIN_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise ValueError(
            f"the token has to be {MIN_TOKEN} or more letters, digits and signs of ASCII without "
            f"spaces; {_HOW}"
        )


class Guard:
    """Lets through what may pass, as ASGI middleware over the whole application.

    With a token, every request has to show it: as `Authorization: Bearer`, as `?token=`, or as the
    cookie that such a request is given. Without one, the `Host` has to be this machine's own, so
    that no foreign name can be made to point here (DNS rebinding). A browser's websocket has to
    come from a page of this same host and port.

    Args:
        app: what is guarded.
        token: that is asked for, or None.
    """

    def __init__(self, app: ASGIApp, token: str | None = None):
        self.app, self._token = app, token
        # What lies in the browser opens the page and nothing else: the token can't be had from it.
        self._pass = _digest(token, "the page") if token else ""
        # Cookies of one host are shared by all ports: another page's may lie beside it.
        self._cookie = f"nexttick-{_digest(token, 'name')[:8]}" if token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None and scope["type"] == "websocket":
            await WebSocketClose(_POLICY_VIOLATION, refusal[1])(scope, receive, send)
            return
        response = self.app if refusal is None else _refused(*refusal)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope)
            await send(message)

        await response(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._token is None:
            name = urlsplit(f"//{host}").hostname if _is_netloc(host) else None
            if not is_loopback(name or ""):
                return 403, "this page answers to localhost and 127.0.0.1 only"
        elif not (self._shown(scope) or self._known(headers)):
            return 401, "open the page once as /?token=…, or send Authorization: Bearer …"
        origin = headers.get("origin")
        if scope["type"] == "websocket" and origin is not None and not _same_site(origin, host):
            return 403, f"a page of {origin} may not listen here"
        return None

    def _shown(self, scope: Scope) -> bool:
        told = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        return self._token is not None and _same(told, self._token)

    def _known(self, headers: Headers) -> bool:
        kind, _, told = headers.get("authorization", "").partition(" ")
        if (
            kind.lower() == "bearer"
            and self._token is not None
            and _same(told.strip(), self._token)
        ):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self._cookie in cookies and _same(cookies[self._cookie].value, self._pass)

    def _add_headers(self, headers: MutableHeaders, scope: Scope) -> None:
        headers.update(_HEADERS)
        if self._token is not None and self._shown(scope):
            secure = "; Secure" if scope["scheme"] == "https" else ""
            cookie = f"{self._cookie}={self._pass}; Path=/; HttpOnly; SameSite=Strict{secure}"
            headers.append("Set-Cookie", cookie)


def _refused(status: int, why: str) -> PlainTextResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return PlainTextResponse(f"{why}\n", status, headers)


def _is_netloc(host: str) -> bool:
    """Whether a Host header is one host and port and nothing that could be read in two ways."""
    return bool(host) and not set(host) & set("/\\@?# \t")


def _same_site(origin: str, host: str) -> bool:
    return _is_netloc(host) and urlsplit(origin).netloc.lower() == host.lower()


def _digest(token: str, of: str) -> str:
    return hmac.new(token.encode(), f"nexttick {of}".encode(), hashlib.sha256).hexdigest()


def _same(told: str, token: str) -> bool:
    return hmac.compare_digest(told.encode(), token.encode())
