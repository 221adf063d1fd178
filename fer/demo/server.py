"""Flask server of the demo page, which listens on the loopback address by default.

The server rejects the attacks that another page in the same browser could try: requests under a foreign host name (DNS
rebinding), requests from another origin, and scripts other than the page's own.
"""

from __future__ import annotations

import contextlib
import html
import ipaddress
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fer import log_suppression, progress
from fer.errors import UserError, install_command
from fer.html_page import base_style, read_resource
from fer.labels import CLASSES, class_colours
from fer.models import loading

try:
    import flask
    from werkzeug import exceptions, serving
except ImportError as error:
    raise UserError(
        f"The demo needs Flask, which is not installed. Install it with {install_command('demo')}."
    ) from error

if TYPE_CHECKING:
    from fer.demo import predictor

MAX_UPLOAD_BYTES = 16 << 20
MAX_BARS = 12  # classes of a face that the page shows; of more classes, the most probable ones
HUMAN_ACCURACY = " Human accuracy on FER-2013 is about 65&nbsp;%."  # Goodfellow et al. 2013, arXiv:1307.0414
MAX_PENDING = 16  # complete uploads: one is processed, the others wait
MAX_CONNECTIONS = 32  # connections with an incomplete request; a new one replaces the oldest
REQUEST_TIMEOUT_S = 30.0  # limit for receiving a request, and for sending its response
LOCAL = "localhost"
ALL_INTERFACES = ("", "0.0.0.0", "::")


def create_app(
    predict: Callable[[bytes], predictor.PhotoResult], classes: tuple[str, ...], description: str, host: str
) -> flask.Flask:
    """Builds the application: the page at /, and /recognise, which maps the bytes of a photo to JSON. Stores nothing.

    Args:
      predict: the function that classifies a photo; see `fer.demo.predictor.FacePredictor`.
      classes: their names, in label order.
      description: plain text of the page about the model.
      host: the name or address that the server listens on.
    """
    app = flask.Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_UPLOAD_BYTES
    _add_checks(app, host)
    _add_error_handlers(app)
    _add_pages(app, predict, classes, description)
    return app


def _add_checks(app: flask.Flask, host: str) -> None:
    """Adds the checks of each request's host and origin, and the security headers of each response."""

    @app.before_request
    def check_host() -> None:
        if not _is_own_host(flask.request.host, host):
            flask.abort(400, f"{flask.request.host} is not a host name of this server. Open the page by its address.")
        origin = flask.request.headers.get("Origin")
        if origin is not None and origin != f"http://{flask.request.host}":
            flask.abort(403, f"The origin {origin} is not allowed to use this server.")

    @app.after_request
    def add_headers(response: flask.Response) -> flask.Response:
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Permissions-Policy"] = "camera=(self), microphone=(), geolocation=()"
        return response


def _add_error_handlers(app: flask.Flask) -> None:
    """Adds the handlers that answer errors as JSON, in the form {"error": message}."""

    @app.errorhandler(UserError)
    def answer_user_error(error: UserError) -> tuple[dict[str, str], int]:
        return {"error": str(error)}, 422

    @app.errorhandler(exceptions.HTTPException)
    def answer_http_error(error: exceptions.HTTPException) -> tuple[dict[str, str], int]:
        too_large = f"This file is too large. The limit is {MAX_UPLOAD_BYTES >> 20} MiB."
        text = too_large if isinstance(error, exceptions.RequestEntityTooLarge) else error.description
        return {"error": str(text)}, error.code or 500


def _add_pages(
    app: flask.Flask, predict: Callable[[bytes], predictor.PhotoResult], classes: tuple[str, ...], description: str
) -> None:
    """Adds the routes; the arguments are those of `create_app`."""
    from fer.demo import predictor

    pending = threading.BoundedSemaphore(MAX_PENDING)

    @app.get("/")
    def page() -> flask.Response:
        nonce = secrets.token_urlsafe(16)
        response = flask.make_response(_page(classes, description, nonce))
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: blob:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return response

    @app.post("/recognise")
    def recognise() -> Any:
        if flask.request.content_length is None:  # Flask would truncate it at the limit instead of rejecting it
            flask.abort(411, "Send the photo with a Content-Length header, not in chunks.")
        content = flask.request.get_data(cache=False)  # before the semaphore, because the data may never arrive
        if not pending.acquire(blocking=False):
            flask.abort(503, "Too many photos are waiting. Try again in a moment.")
        try:
            return predictor.to_json(predict(content))
        finally:
            pending.release()


def serve(workdir: str, host: str, port: int) -> None:
    """Serves the page until Ctrl-C. Prints each step of the start, and then the address.

    Args:
      workdir: the model; see `fer.models.loading.open_run`.
      host: the name or address to listen on.
      port: the TCP port; 0 chooses a free one.

    Raises:
      UserError: the run cannot be opened, or the server cannot listen on this host and port.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError, TypeError, ValueError) as error:  # the last two for a NUL byte and bad Unicode
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"Cannot listen on {host}, port {port} ({reason}). Choose another --host or --port; --port=0 chooses a "
            "free port."
        ) from error
    with listening:
        with progress.stage("Loading TensorFlow ..."):  # slow, so after the check of the port
            log_suppression.import_tensorflow(announce=False)
            from fer.demo import predictor
        with progress.stage(f"Loading the model {workdir} ..."):
            run = loading.open_run(workdir)
        with progress.stage("Compiling the model ..."):
            predict = predictor.FacePredictor(run)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line per request
        server = Server(create_app(predict, run.classes, _describe(run), host), host, listening)
        print(f"The page is at http://{_url_host(host)}:{server.port}/ (Ctrl-C stops the server).", flush=True)
        server.serve_forever()  # returns at Ctrl-C


class Server(serving.ThreadedWSGIServer):
    """WSGI server with a thread per connection and a time limit for each request.

    Connections that send no complete request are closed after `REQUEST_TIMEOUT_S` seconds, or earlier if there are more
    than `MAX_CONNECTIONS`, so that they cannot exhaust the threads.
    """

    def __init__(self, app: flask.Flask, host: str, listening: socket.socket):
        super().__init__(host, listening.getsockname()[1], app, _Handler, fd=listening.fileno())
        self._started: dict[socket.socket, float] = {}  # start time of each connection, oldest first
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts the thread of a connection; if there are too many, stops reading from the oldest one."""
        with self._lock:
            if len(self._started) >= MAX_CONNECTIONS:
                self._stop_reading(next(iter(self._started)))
            self._started[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Stops reading from overdue connections; called twice a second."""
        now = time.monotonic()
        with self._lock:
            for each in [each for each, start in self._started.items() if now - start > REQUEST_TIMEOUT_S]:
                self._stop_reading(each)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection after its response."""
        with self._lock:
            self._started.pop(request, None)
        super().shutdown_request(request)

    def _stop_reading(self, connection: socket.socket) -> None:
        """Closes the receiving side of a connection; a request that is complete is still answered."""
        del self._started[connection]
        with contextlib.suppress(OSError):  # the client has closed it already
            connection.shutdown(socket.SHUT_RD)


class _Handler(serving.WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S  # of one blocking operation, such as sending a response


def _url_host(host: str) -> str:
    """Returns the host part of the URL to open; `localhost` if the server listens on all interfaces."""
    if host in ALL_INTERFACES:
        return LOCAL
    return f"[{host}]" if ":" in host else host


def _is_own_host(requested: str, host: str) -> bool:
    """Returns whether a Host header is an IP address, localhost or the name that the server listens on.

    An attacker can let a host name resolve to this machine (DNS rebinding), but cannot do so with an IP address.
    """
    name = requested.rpartition(":")[0] if requested.rpartition(":")[2].isdigit() else requested
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() in (LOCAL, host.lower())
    return True


def _describe(run: loading.LoadedRun) -> str:
    name = os.path.basename(os.path.normpath(run.workdir))  # not the whole path, which other users should not see
    return f"{run.config.model.name}, run {name}, step {run.step:,}, trained on {run.trained_on['name']}"


def _page(classes: tuple[str, ...], description: str, nonce: str) -> str:
    settings = {
        "classes": classes,
        "colours": class_colours(classes),
        "max_bars": MAX_BARS,
        "max_bytes": MAX_UPLOAD_BYTES,
    }
    values = {
        "NONCE": nonce,
        "DESCRIPTION": html.escape(description),
        "HUMAN_ACCURACY": HUMAN_ACCURACY if classes == CLASSES else "",
        "SETTINGS": json.dumps(settings).replace("<", "\\u003c"),
        "STYLE": base_style() + read_resource("fer.demo", "page.css"),
        "SCRIPT": read_resource("fer.demo", "page.js"),
    }
    text = read_resource("fer.demo", "page.html")
    for name, value in values.items():
        text = text.replace(f"@@{name}@@", value)
    return text
