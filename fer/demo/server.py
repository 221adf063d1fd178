"""The page's server: Flask on one address, for the person at this machine unless told otherwise.

What a stranger's page might try from within the same browser is refused: requests under a name that is none of this
machine's (DNS rebinding), requests from another origin, and scripts that are not the page's own.
"""

from __future__ import annotations

import contextlib
import functools
import html
import importlib.resources
import ipaddress
import json
import logging
import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

from fer import log_suppression
from fer.errors import UserError, install_command
from fer.labels import CLASSES, COLOURS
from fer.models import loading

try:
    import flask
    from werkzeug import exceptions, serving
except ImportError as error:
    raise UserError(f"The page is served by Flask, which is not installed: {install_command('demo')}.") from error

if TYPE_CHECKING:
    from fer.demo import predictor

MOST_BYTES = 16 << 20  # of an upload
MOST_AT_ONCE = 16  # pictures that are whole: one is looked at, the others wait
MOST_CONNECTIONS = 32  # that have begun a request: the oldest makes way for a new one
PATIENCE = 30.0  # seconds in which a request must be whole, and its answer be taken
LOCAL = "localhost"
EVERYWHERE = ("", "0.0.0.0", "::")


def application(recognise: Callable[[bytes], predictor.PhotoResult], said: str, host: str) -> flask.Flask:
    """The page (/) and what it asks (/recognise: a picture's bytes in, JSON out). Nothing is kept of either.

    Args:
      recognise: see `fer.demo.predictor.FacePredictor`.
      said: what the page says of the network, in plain text.
      host: the name or address that the server was told to listen on.
    """
    from fer.demo import predictor

    app = flask.Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    places = threading.BoundedSemaphore(MOST_AT_ONCE)

    @app.before_request
    def refuse_strangers() -> None:
        if not _is_ours(flask.request.host, host):
            flask.abort(400, f"{flask.request.host} is not a name of this page; open it by its address.")
        origin = flask.request.headers.get("Origin")
        if origin is not None and origin != f"http://{flask.request.host}":
            flask.abort(403, f"{origin} may not use this page.")

    @app.get("/")
    def page() -> flask.Response:
        nonce = secrets.token_urlsafe(16)
        response = flask.make_response(_page(said, nonce))
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: blob:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return response

    @app.post("/recognise")
    def recognised() -> Any:
        if flask.request.content_length is None:  # it would be cut at the limit, not refused
            flask.abort(411, "Send the picture with its length, not in chunks.")
        content = flask.request.get_data(cache=False)  # before a place is taken: it may never come
        if not places.acquire(blocking=False):
            flask.abort(503, "Too many pictures are waiting; try again in a moment.")
        try:
            return predictor.as_json(recognise(content))
        finally:
            places.release()

    @app.errorhandler(UserError)
    def mistake(error: UserError) -> tuple[dict[str, str], int]:
        return {"error": str(error)}, 422

    @app.errorhandler(exceptions.HTTPException)
    def refused(error: exceptions.HTTPException) -> tuple[dict[str, str], int]:
        too_large = f"This file is too large: at most {MOST_BYTES >> 20} MiB are read."
        text = too_large if isinstance(error, exceptions.RequestEntityTooLarge) else error.description
        return {"error": str(text)}, error.code or 500

    @app.after_request
    def guarded(response: flask.Response) -> flask.Response:
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Permissions-Policy"] = "camera=(self), microphone=(), geolocation=()"
        return response

    return app


def serve(workdir: str, host: str, port: int) -> None:
    """Serves the page until it is interrupted.

    Args:
      workdir: as for `fer.models.loading.open_run`.
      host: the name or address to listen on.
      port: 0 takes a free one.

    Raises:
      UserError: the run cannot be opened, or nobody can listen there.
    """
    try:
        listening = socket.create_server((host, port), family=_family(host))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"Cannot listen on {host}, port {port} ({reason}); choose another --host or --port, or --port=0 for a free "
            "one."
        ) from error
    with listening:
        log_suppression.import_tensorflow()  # not before it is known that the page can be served
        from fer.demo import predictor

        run = loading.open_run(workdir)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request helps nobody
        app = application(predictor.FacePredictor(run), _said(run), host)
        server = Server(app, host, listening)
        print(f"The page is at http://{_shown(host)}:{server.port}/ (Ctrl-C ends it).", flush=True)
        server.serve_forever()  # returns at Ctrl-C


class Server(serving.ThreadedWSGIServer):
    """A thread for each connection, none of which can be held by a request that does not come."""

    def __init__(self, app: flask.Flask, host: str, listening: socket.socket):
        super().__init__(host, listening.getsockname()[1], app, _Handler, fd=listening.fileno())
        self._begun: dict[socket.socket, float] = {}  # when each connection was made, the oldest first
        self._lock = threading.Lock()

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        """Begins a connection."""
        with self._lock:
            if len(self._begun) >= MOST_CONNECTIONS:
                self._give_up(next(iter(self._begun)))
            self._begun[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Ends what is overdue, twice a second."""
        now = time.monotonic()
        with self._lock:
            for each in [each for each, begun in self._begun.items() if now - begun > PATIENCE]:
                self._give_up(each)

    def shutdown_request(self, request: socket.socket) -> None:
        """Ends a connection that was answered."""
        with self._lock:
            self._begun.pop(request, None)
        super().shutdown_request(request)

    def _give_up(self, connection: socket.socket) -> None:
        """Waits no more for what a connection has to say; a request that has come whole is still answered."""
        del self._begun[connection]
        with contextlib.suppress(OSError):  # it has ended by itself
            connection.shutdown(socket.SHUT_RD)


class _Handler(serving.WSGIRequestHandler):
    timeout = PATIENCE  # of a single step, such as sending an answer


def _shown(host: str) -> str:
    """The host in an address to open: that of every address of this machine is none."""
    if host in EVERYWHERE:
        return LOCAL
    return f"[{host}]" if ":" in host else host


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _is_ours(requested: str, host: str) -> bool:
    """Whether a request's Host is an address, localhost or the name that we listen on.

    A page elsewhere can have its own name point at this machine, but never an address.
    """
    name = requested.rpartition(":")[0] if requested.rpartition(":")[2].isdigit() else requested
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() in (LOCAL, host.lower())
    return True


def _said(run: loading.Run) -> str:
    name = os.path.basename(os.path.normpath(run.workdir))  # not the whole path: the page may be shown to others
    return f"{run.config.model.name} of {name}, step {run.step:,}, trained on {run.trained_on['name']}"


def _page(said: str, nonce: str) -> str:
    settings = {"classes": CLASSES, "colours": COLOURS, "most_bytes": MOST_BYTES}
    values = {
        "NONCE": nonce,
        "SAID": html.escape(said),
        "SETTINGS": json.dumps(settings).replace("<", "\\u003c"),
        "STYLE": _resource("page.css"),
        "SCRIPT": _resource("page.js"),
    }
    text = _resource("page.html")
    for name, value in values.items():
        text = text.replace(f"@@{name}@@", value)
    return text


@functools.cache
def _resource(name: str) -> str:
    return importlib.resources.files("fer.demo").joinpath(name).read_text(encoding="utf-8")
