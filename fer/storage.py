"""Paths in object stores, through fsspec: s3:// (extra `s3`), and gs://, az:// and others with their own packages.

Properties of a store that callers rely on:

- An object is complete or absent: it appears when its upload ends.
- A folder exists if it contains an object. There is no function to create one.
- Nothing is renamed: a store copies and deletes object after object instead.

Each request has limits: 5 s to connect, 15 s between two bytes, and `ANSWER_TIMEOUT_S` in all, besides the time that
the bytes of a transfer take at `MIN_BYTES_PER_S`. The client sends a failing request `AWS_MAX_ATTEMPTS` times, 5 by
default.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

from fer.errors import StoreUnavailableError, UserError, install_command

if TYPE_CHECKING:
    import fsspec

Answer = TypeVar("Answer")

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 15  # limit between two bytes
ANSWER_TIMEOUT_S = 60.0  # limit of a request, including repetitions
MIN_BYTES_PER_S = 100_000  # transfers may take this much longer than a request without content
ATTEMPTS = 5  # default for AWS_MAX_ATTEMPTS
CACHE_DIR_VARIABLE = "FER_CACHE_DIR"  # set by the flag --cache_dir, and inherited by processes

SCHEMES = ("s3", "gs", "gcs", "az", "abfs")  # of the stores that flags may name
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_STORES = f"(?:{'|'.join(SCHEMES)})://"
_NOT_CONFIGURED = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError")
_WRONG_CREDENTIALS = (
    *("InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
)
_WRONG_REGION = (
    *("NoRegionError", "InvalidRegionError", "PermanentRedirect", "AuthorizationHeaderMalformed"),
    *("IllegalLocationConstraintException", "301"),
)


def is_remote(path: str) -> bool:
    """Returns whether a path is in a store."""
    return "://" in path


def check_slashes(*texts: str) -> None:
    """Checks the paths in stores in texts (a path, comma-separated paths, a configuration), without a request.

    Raises:
      UserError: a path has two slashes in a row, which stores do not treat as one.
    """
    for text in texts:
        doubled = re.search(rf"{_STORES}[^,\s'\"]*?//[^,\s'\"]*", text)
        if doubled:
            raise UserError(f"{doubled[0]} has two slashes in a row: write one.")


def check_stores(*texts: str) -> None:
    """Checks that the stores in texts can be used, with a request to each.

    Raises:
      UserError: as `check_slashes`; or the package of a store is not installed, its bucket does not exist, denies
        access or is in another region, or there are no credentials.
      StoreUnavailableError: a store does not answer.
    """
    check_slashes(*texts)
    paths = [path for text in texts for path in re.findall(rf"{_STORES}[^,\s'\"]+", text)]
    for path in {_describe_store(path): path for path in reversed(paths)}.values():
        _info(path)


def check_not_bucket(path: str) -> None:
    """Rejects the path of a whole bucket.

    Raises:
      UserError: the path is a whole bucket.
    """
    if re.fullmatch(r"\w+://[^/]*/*", path):
        raise UserError(f"{path} is a whole bucket: name a folder in it, such as {path.rstrip('/')}/fer2013.")


def cache_dir() -> str:
    """Returns the folder of local copies: that of the flag --cache_dir, or one in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get(CACHE_DIR_VARIABLE) or os.path.join(base, "fer")


def exists(path: str) -> bool:
    """Returns whether an object or a folder exists."""
    return _info(path) is not None


def isdir(path: str) -> bool:
    """Returns whether a folder exists."""
    found = _info(path)
    return found is not None and found["type"] == "directory"


def size(path: str) -> int:
    """Returns the bytes of an object.

    Raises:
      FileNotFoundError: there is no such object.
    """
    found = _info(path)
    if found is None or found["type"] == "directory":
        raise FileNotFoundError(f"{path} does not exist")
    return int(found["size"])


def listdir(path: str) -> list[str]:
    """Returns the names in a folder.

    Raises:
      FileNotFoundError: there is no such folder.
    """
    inner = _inner(path).rstrip("/")
    entries = _call(path, lambda: _filesystem(path).ls(inner, detail=True))
    names = (entry["name"].rstrip("/") for entry in entries)
    return sorted(name.rpartition("/")[2] for name in names if name.rstrip("/") != inner)


def walk_files(path: str) -> list[str]:
    """Returns the paths of all objects below a folder, relative to it, sorted; none if there is no such folder."""
    inner = _inner(path).rstrip("/") + "/"
    try:
        found = _call(path, lambda: _filesystem(path).find(inner))
    except FileNotFoundError:
        return []
    return sorted(name[len(inner) :] for name in found if name.startswith(inner) and not name.endswith("/"))


def write_bytes(path: str, content: bytes) -> None:
    """Replaces an object."""
    timeout = _transfer_timeout(len(content))
    _call(path, lambda: _filesystem(path).pipe_file(_inner(path), content), timeout=timeout)


def download(path: str, target: str) -> None:
    """Copies an object to a local file, which is incomplete after an error.

    Raises:
      FileNotFoundError: there is no such object.
    """
    timeout = _transfer_timeout(size(path))
    _call(path, lambda: _filesystem(path).get_file(_inner(path), target), timeout=timeout)


def upload(source: str, path: str) -> None:
    """Copies a local file to an object."""
    timeout = _transfer_timeout(os.path.getsize(source))
    _call(path, lambda: _filesystem(path).put_file(source, _inner(path)), timeout=timeout)


def remove(path: str) -> None:
    """Removes an object.

    Raises:
      FileNotFoundError: there is no such object.
    """
    _call(path, lambda: _filesystem(path).rm_file(_inner(path)))


def remove_tree(path: str) -> None:
    """Removes all objects below a folder, in ascending order; does nothing if there are none."""
    for name in walk_files(path):
        remove(f"{path.rstrip('/')}/{name}")


def _info(path: str) -> dict | None:
    """Returns the entry of an object or folder; None if neither exists."""
    try:
        return _call(path, lambda: _filesystem(path).info(_inner(path)))
    except FileNotFoundError:
        return None


def _filesystem(path: str) -> fsspec.AbstractFileSystem:
    """Returns the filesystem of a path.

    Raises:
      UserError: its package is not installed, or there is no such filesystem.
    """
    return _open_filesystem(path.partition("://")[0].lower(), os.getpid())


@functools.cache
def _open_filesystem(protocol: str, _: int) -> fsspec.AbstractFileSystem:
    """Opens a filesystem, once in each process, because its thread does not survive a fork."""
    try:
        import fsspec

        options = _s3_options() if protocol == "s3" else {"auto_mkdir": True} if protocol == "file" else {}
        return fsspec.filesystem(protocol, **options)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        install = f"pip install {package}" if package else install_command("s3") if protocol == "s3" else str(error)
        raise UserError(f"{protocol}:// paths need {package or 'the extra s3'}: {install}.") from error
    except ValueError as error:
        raise UserError(f"{protocol}:// is no kind of path that fsspec knows: {error}.") from error


def _s3_options() -> dict:
    import s3fs

    for name, level in (("aiobotocore", logging.WARNING), ("botocore", logging.WARNING), ("asyncio", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)  # absl would show their settings, and connections that broke
    s3fs.S3FileSystem.retries = int(os.environ.get("AWS_MAX_ATTEMPTS") or ATTEMPTS)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return {
        "use_listings_cache": False,  # other processes write too
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"total_max_attempts": 1, "mode": "standard"},  # s3fs repeats requests itself
        },
    }


def _inner(path: str) -> str:
    """Returns the path as its filesystem names it, without the protocol."""
    return cast(str, _filesystem(path)._strip_protocol(path))


def _transfer_timeout(count: int) -> float:
    return ANSWER_TIMEOUT_S + count / MIN_BYTES_PER_S


def _call(path: str, request: Callable[[], Answer], timeout: float | None = None) -> Answer:
    """Sends a request about a path.

    Raises:
      FileNotFoundError: there is no such object, but its bucket exists.
      UserError: the bucket does not exist, denies access or is in another region, or the credentials are missing.
      StoreUnavailableError: there is no answer, or one that a later request may change.
    """
    limit = timeout or ANSWER_TIMEOUT_S
    try:
        return _call_with_timeout(request, limit)
    except UserError:
        raise
    except TimeoutError as error:
        raise _unavailable(path, f"no answer within {limit:.0f} s") from error
    except Exception as error:
        names = list(_names(error))
        if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in names:
            raise
        raise _explain(path, error, names) from error


def _explain(path: str, error: Exception, names: list[str]) -> UserError:
    """Returns the exception for an error of the client.

    Args:
      path: of the request.
      error: of the client.
      names: of the error and its causes, and the codes in the store's answer.
    """
    bucket = _describe_store(path)
    code = next((name for name in names if name in (*_NOT_CONFIGURED, *_WRONG_CREDENTIALS, *_WRONG_REGION)), "")
    if "NoSuchBucket" in names:
        return UserError(f"There is no {bucket}: check the name, and the region in AWS_REGION.")
    if code in _NOT_CONFIGURED:
        return UserError(
            f"There are no credentials for the {bucket} ({code}): set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give the instance a role."
        )
    if code in _WRONG_CREDENTIALS:
        return UserError(f"The {bucket} rejects the credentials ({code}): renew them (aws sts get-caller-identity).")
    if code in _WRONG_REGION:
        return UserError(f"The {bucket} is in another region than AWS_REGION states ({code}): set its region.")
    if isinstance(error, PermissionError):
        return UserError(
            f"Access to the {bucket} is denied ({path}): check the credentials (aws sts get-caller-identity); they "
            "need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject."
        )
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return _unavailable(path, reason)


def _unavailable(path: str, reason: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The {_describe_store(path)} cannot be reached ({reason}): check the network, AWS_REGION and "
        "AWS_ENDPOINT_URL, and run the same command again."
    )


def _describe_store(path: str) -> str:
    protocol, _, rest = path.partition("://")
    return f"bucket {rest.partition('/')[0]}" if protocol in SCHEMES else f"store of {path}"


def _names(error: BaseException | None) -> Iterator[str]:
    """Yields the names of an error and its causes, and the codes of a store's answer."""
    while error is not None:
        yield type(error).__name__
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            yield str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__ or error.__context__


def _call_with_timeout(request: Callable[[], Answer], timeout: float) -> Answer:
    """Calls `request`, which cannot be interrupted, in a thread that is abandoned after the timeout.

    Raises:
      TimeoutError: it takes longer than `timeout` seconds.
      Exception: as `request` raises.
    """
    answers: queue.SimpleQueue[tuple[Answer | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((request(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return cast(Answer, answer)
