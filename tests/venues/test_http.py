"""Bytes over HTTP: what is tried again, what is bounded, and what is never said."""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web

from helpers.local_archive import Shelf, waits
from helpers.servers import BROKEN, BUSY, CUT, DROP, OK, Fault, LocalServer
from nexttick.ticks.record import TickError
from nexttick.ticks.source import SourceError
from nexttick.venues.http import Http, NotThereError, UnreachableError, json_of

__all__ = ["waits"]
KEY = "5ecret-5ecret-5ecret"
BODY = bytes(range(256)) * 4000
pytestmark = pytest.mark.usefixtures("waits")


def shelf() -> Shelf:
    return Shelf({"/body": BODY, "/small": b'{"a": [1, 2]}', "/empty": b""})


def test_bodies_come_whole() -> None:
    with LocalServer(shelf()) as server:
        http = Http()
        assert http.get(f"{server.url}/body", "a body", {"from": 3}) == BODY
        assert http.received() == len(BODY)
        assert json_of(http.get(f"{server.url}/small", "a body"), "x") == {"a": [1, 2]}
        assert http.get(f"{server.url}/empty", "a body") == b""
        assert server.requests[0] == "/body?from=3"


@pytest.mark.parametrize("fault", [BUSY, BROKEN, CUT, DROP, Fault("status", 408)], ids=str)
def test_what_passes_is_tried_again(fault: Fault, tmp_path: Path) -> None:
    with LocalServer(shelf(), [fault, OK, fault, fault, OK]) as server:
        http = Http()
        assert http.get(f"{server.url}/body", "a body") == BODY
        assert http.received() >= len(BODY)
        done = http.download(f"{server.url}/body", "a body", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert http.received() >= len(BODY)
    assert done == hashlib.sha256(BODY).hexdigest()
    assert len(server.requests) == 5


@pytest.mark.parametrize("fault", [BROKEN, CUT, DROP], ids=str)
def test_what_does_not_pass_says_where_and_how_often(fault: Fault) -> None:
    with LocalServer(shelf(), [fault] * 9) as server:
        with pytest.raises(UnreachableError, match=r"5 Jan: http.*/body.*tried 3 times; check"):
            Http(attempts=3).get(f"{server.url}/body", "5 Jan")
        assert len(server.requests) == 3


def test_a_cut_body_is_called_one() -> None:
    with LocalServer(shelf(), [CUT]) as server, pytest.raises(UnreachableError, match="cut off"):
        Http(attempts=1).get(f"{server.url}/body", "x")


def test_silence_is_no_answer() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()  # for ever; the server's end cancels it
        return web.Response()

    with LocalServer(silent) as server, pytest.raises(UnreachableError, match="no answer in time"):
        Http(timeout_s=0.05, attempts=2).get(f"{server.url}/body", "x")


def test_nobody_there_is_said_in_the_systems_words() -> None:
    with LocalServer(shelf()) as server:
        url = server.url
    with pytest.raises(UnreachableError, match=r"connection failed \(Connection refused\)"):
        Http(attempts=1).get(url, "x")


@pytest.mark.parametrize(("status", "error"), [(404, NotThereError), (410, NotThereError)])
def test_what_is_not_there_is_not_tried_again(status: int, error: type[Exception]) -> None:
    with LocalServer(Shelf({"/x": status})) as server:
        with pytest.raises(error, match=f"status {status}.*nothing is there"):
            Http().get(f"{server.url}/x", "x")
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 451])
def test_refusals_are_not_tried_again(status: int) -> None:
    with LocalServer(Shelf({"/x": status})) as server:
        with pytest.raises(SourceError, match=f"status {status} .no such key.; it refuses"):
            Http().get(f"{server.url}/x", "x")
        assert len(server.requests) == 1


def _in_20_s() -> str:
    return format_datetime(datetime.now(tz=UTC) + timedelta(seconds=20), usegmt=True)


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        (lambda: "7", 7, 7),
        (lambda: " 0 ", 0, 0),
        (lambda: "100000", 60, 60),
        (_in_20_s, 15, 20),
        (lambda: "Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        (lambda: "soon", 0, 0.5),
        (lambda: "-3", 0, 0.5),
    ],
    ids=["seconds", "blanks", "too long", "date", "past date", "no time", "negative"],
)
def test_retry_after(
    told: Callable[[], str], least: float, most: float, waits: list[float]
) -> None:
    faults = [Fault("status", 429, (("Retry-After", told()),))]
    with LocalServer(shelf(), faults) as server:
        Http().get(f"{server.url}/small", "x")
    (waited,) = waits
    assert least <= waited <= most


# --- bounds


def test_a_body_longer_than_it_may_be_is_refused(tmp_path: Path) -> None:
    with LocalServer(shelf()) as server:
        with pytest.raises(SourceError, match="longer than the 1,000 bytes"):
            Http().get(f"{server.url}/body", "x", max_bytes=1000)
        with pytest.raises(SourceError, match="longer than the 999 bytes"):
            Http().download(f"{server.url}/body", "x", tmp_path / "file", max_bytes=999)
        assert len(server.requests) == 2
    assert (tmp_path / "file").stat().st_size == 0


def test_a_body_without_end_is_refused() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(b"0" * 10_000)
        return response

    with LocalServer(endless) as server, pytest.raises(SourceError, match="longer than"):
        Http().get(server.url, "x", max_bytes=1 << 20)


def test_a_packed_body_is_bounded_unpacked() -> None:
    import gzip

    async def bomb(request: web.Request) -> web.StreamResponse:
        body = gzip.compress(b"0" * (8 << 20))
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    with LocalServer(bomb) as server, pytest.raises(SourceError, match="longer than"):
        Http().get(server.url, "x", max_bytes=1 << 20)


def test_an_unwritable_file_is_named(tmp_path: Path) -> None:
    with LocalServer(shelf()) as server, pytest.raises(OSError, match="no such folder") as caught:
        Http().download(f"{server.url}/small", "x", tmp_path / "none" / "file")
    assert str(tmp_path) in str(caught.value)


def test_closed_it_refuses() -> None:
    with LocalServer(shelf()) as server:
        http = Http()
        http.close()
        with pytest.raises(SourceError, match="broken off"):
            http.get(f"{server.url}/body", "x")
        assert not server.requests


def test_what_is_no_json_is_shown() -> None:
    with LocalServer(Shelf({"/x": b"<html>busy"})) as server:
        answer = Http().get(f"{server.url}/x", "quotes of 5 Jan")
    with pytest.raises(TickError, match="quotes of 5 Jan: '<html>busy' starts no JSON"):
        json_of(answer, "quotes of 5 Jan")


# --- keys


async def echo(request: web.Request) -> web.StreamResponse:
    """Refuse, and say back all that was sent."""
    text = f"{request.path_qs} {dict(request.headers)} {dict(request.query)}"
    status = int(request.query.get("status", "401"))
    return web.Response(status=status, text=text)


@pytest.mark.parametrize("how", ["header", "params", "query", "password"])
@pytest.mark.parametrize("status", [400, 404, 503])
def test_a_key_is_in_no_message(how: str, status: int) -> None:
    with LocalServer(echo) as server:
        url, params = f"{server.url}/x?status={status}", {}
        if how == "params":
            params = {"apiKey": KEY}
        elif how == "query":
            url += f"&access_token={KEY}"
        elif how == "password":
            url = url.replace("//", f"//user:{KEY}@")
        http = Http({"X-Key": KEY} if how == "header" else None, attempts=2)
        with pytest.raises(SourceError) as caught:
            http.get(url, "x", params)
    assert f"status {status}" in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("how", ["query", "header"])
@pytest.mark.parametrize("fault", [DROP, CUT], ids=str)
def test_a_key_is_in_no_traceback(how: str, fault: Fault) -> None:
    with LocalServer(shelf(), [fault] * 3) as server:
        params = {"apikey": KEY} if how == "query" else {}
        http = Http({"X-Key": KEY} if how == "header" else None, attempts=2)
        with pytest.raises(UnreachableError) as caught:
            http.get(f"{server.url}/body", "x", params)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in "".join(traceback.format_exception(error))
        error = error.__context__


def test_a_key_that_no_header_can_hold_is_in_no_message() -> None:
    with pytest.raises(SourceError) as caught:
        Http({"X-Key": f"{KEY}\n"}).get("http://127.0.0.1:9", "x")
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_no_redirection_takes_a_key_along() -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/small") if request.path == "/away" else web.HTTPOk(text="there")

    with LocalServer(away) as server:
        with pytest.raises(SourceError, match=r"status 302.*a key is sent to one address only"):
            Http({"X-Key": KEY}).get(f"{server.url}/away", "x")
        assert server.requests == ["/away"]
        assert Http().get(f"{server.url}/away", "x") == b"there"
