"""Who may see the page: this machine's own user, or whoever knows the token."""

from __future__ import annotations

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
    """Refuse, by a ValueError, an address that others can reach unless a token is asked for.

    A token that is easily guessed or that no header can carry is refused too.
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
    """

    def __init__(self, app: ASGIApp, token: str | None = None):
        self.app, self._token = app, token
        # What lies in the browser opens the page and nothing else: the token can't be had from it.
        # Cookies of one host are shared by all ports: another page's may lie beside it.
        self._pass, self._cookie = "", ""
        if token is not None:
            key = token.encode()
            self._pass = hmac.digest(key, b"nexttick the page", "sha256").hex()
            self._cookie = f"nexttick-{hmac.digest(key, b'nexttick name', 'sha256').hex()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        response = self.app
        if refusal is not None:
            status, why = refusal
            if scope["type"] == "websocket":
                await WebSocketClose(_POLICY_VIOLATION, why)(scope, receive, send)
                return
            asked = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
            response = PlainTextResponse(f"{why}\n", status, asked)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope)
            await send(message)

        await response(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        # One host and port, and nothing that could be read in two ways.
        is_netloc = bool(host) and not set(host) & set("/\\@?# \t")
        if self._token is None:
            name = urlsplit(f"//{host}").hostname if is_netloc else None
            if not is_loopback(name or ""):
                return 403, "this page answers to localhost and 127.0.0.1 only"
        elif not (self._shown(scope) or self._known(headers)):
            return 401, "open the page once as /?token=…, or send Authorization: Bearer …"
        origin = headers.get("origin")
        if scope["type"] == "websocket" and origin is not None:
            same_site = is_netloc and urlsplit(origin).netloc.lower() == host.lower()
            if not same_site:
                return 403, f"a page of {origin} may not listen here"
        return None

    def _shown(self, scope: Scope) -> bool:
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        return self._token is not None and _same(shown, self._token)

    def _known(self, headers: Headers) -> bool:
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if (
            self._token is not None
            and kind.lower() == "bearer"
            and _same(shown.strip(), self._token)
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


def _same(shown: str, wanted: str) -> bool:
    # In a time that does not depend on where they differ.
    return hmac.compare_digest(shown.encode(), wanted.encode())
