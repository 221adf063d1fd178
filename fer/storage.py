"""Paths in object stores. s3:// uses TensorFlow I/O, which is imported when such a path is named.

`fer.cli` registers the filesystems of the paths in the flags of every program; other callers of the package use
`register_filesystems`. Then `tf.io.gfile` and `tf.data` read and write s3:// like local paths, with these differences
of the store or the client (tensorflow_io 0.36):

- An object is complete or absent: it appears when the file is closed. Every flush writes the whole object again.
- A folder exists if it contains an object. `makedirs` creates none.
- `rename` copies and deletes object after object, so that renaming a folder is not atomic. It renames every path that
  begins with the given one ("a/step-1" also "a/step-10"), unless that ends with "/", and fails on an empty object. This
  package does not rename in stores.
- A whole bucket is "s3://bucket/"; without the slash it is an error.
- Existence checks return False also where access is denied or the store is unreachable. Where that matters, use
  `check_or_raise`.

The client repeats failed requests with growing, random pauses for about half a minute; AWS_MAX_ATTEMPTS sets their
number. A request to a server that stops responding ends after S3_REQUEST_TIMEOUT_MSEC, 15 s, so all attempts after
three minutes. The first request to a store, and each with a short answer, ends after `ANSWER_TIMEOUT_S`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import re
import threading
from collections.abc import Iterator
from typing import Callable, TypeVar, cast

from fer.errors import StorageError, UserError, install_command

Answer = TypeVar("Answer")

ANSWER_TIMEOUT_S = 60.0  # limit for a request with a short answer, including repetitions


def is_remote(path: str) -> bool:
    """Returns whether a path is not on the local disk."""
    return "://" in path


def register_filesystems(*texts: str) -> None:
    """Registers the filesystems of the paths in texts (a path, comma-separated paths, a configuration).

    Raises:
      UserError: a text has an s3:// path, and the extra `s3` is not installed, its bucket does not exist, denies
        access or is unreachable, or the path has two slashes in a row: files would be written to one path and read
        from another.
    """
    for text in texts:
        doubled = re.search(r"s3://[^,\s'\"]*?//[^,\s'\"]*", text)
        if doubled:
            raise UserError(f"{doubled[0]} has two slashes in a row: write one.")
    for bucket in dict.fromkeys(bucket for text in texts for bucket in re.findall(r"s3://([^/,\s'\"]+)", text)):
        _load_s3()
        _check_bucket(bucket)


def check_or_raise(path: str, there: Callable[[str], bool]) -> bool:
    """Returns `there(path)`, such as tf.io.gfile.exists; raises if the store is unreachable instead of returning False.

    Raises:
      UserError: as `register_filesystems`.
    """
    if not is_remote(path):
        return there(path)
    found = ask(path, lambda: there(path))
    if not found:
        register_filesystems(path)
        found = ask(path, lambda: there(path))
    return found


def ask(path: str, question: Callable[[], Answer]) -> Answer:
    """Returns the result of a request with a short answer, such as whether a file exists.

    The client has no limit for a store that sends a byte now and then.

    Args:
      path: path in a store.
      question: sends the request.

    Raises:
      StorageError: there is no answer within `ANSWER_TIMEOUT_S`.
      Exception: as `question` raises.
    """
    try:
        return _call_with_timeout(question)
    except TimeoutError as error:
        raise StorageError(
            f"The store has not answered a question about {path} within {ANSWER_TIMEOUT_S:.0f} s: see the network, "
            "AWS_REGION and AWS_ENDPOINT_URL, and run the same command again."
        ) from error


@contextlib.contextmanager
def storage_errors(*paths: str) -> Iterator[None]:
    """Turns errors of the stores of `paths` within the context into StorageErrors.

    Raises:
      StorageError: a request failed; the message says that earlier files are complete, and how to continue.
    """
    import tensorflow as tf

    try:
        yield
    except (
        tf.errors.ResourceExhaustedError,
        tf.errors.InvalidArgumentError,
        tf.errors.UnimplementedError,
        tf.errors.InternalError,
    ):
        raise  # of the device or the program: no store raises these
    except tf.errors.OpError as error:
        stores = [path for path in paths if is_remote(path)]
        if not stores:
            raise
        reason = (error.message or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"The connection to {' or '.join(stores)} broke ({reason}). What was written before is complete: "
            "run the same command again to continue from there."
        ) from error


def check_not_bucket(path: str) -> None:
    """Rejects the path of a whole bucket.

    Raises:
      UserError: the path is a whole bucket.
    """
    if re.fullmatch(r"\w+://[^/]*/*", path):
        raise UserError(f"{path} is a whole bucket: name a folder in it, such as {path.rstrip('/')}/fer2013.")


@functools.cache
def _load_s3() -> None:
    # The client reads these at its first use. Multi-part downloads cost a second request for each read. By default the
    # client waits five minutes, ten times, for a server that does not answer.
    os.environ.setdefault("S3_DISABLE_MULTI_PART_DOWNLOAD", "1")
    os.environ.setdefault("S3_CONNECT_TIMEOUT_MSEC", "5000")
    os.environ.setdefault("S3_REQUEST_TIMEOUT_MSEC", "15000")  # between two bytes
    os.environ.setdefault("AWS_RETRY_MODE", "standard")
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "8")  # with pauses of up to 1, 2, 4, ... 20 s
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get(
        "AWS_ENDPOINT_URL"
    )  # the names that other clients use
    if endpoint:
        os.environ.setdefault("S3_ENDPOINT", endpoint)
    try:
        import tensorflow_io  # noqa: F401 - registers s3:// with TensorFlow
    except ImportError as error:
        raise UserError(
            f"s3:// paths need TensorFlow I/O: install the extra s3 ({install_command('s3')}) on Python 3.9 to 3.11; "
            "later versions of Python have none."
        ) from error
    from fer import tf_workarounds

    tf_workarounds.exit_before_destructors()


def _check_bucket(bucket: str) -> None:
    """Requests a bucket with makedirs, the only operation whose errors distinguish the causes."""
    import tensorflow as tf

    try:
        _call_with_timeout(lambda: tf.io.gfile.makedirs(f"s3://{bucket}/"))
    except TimeoutError as error:
        raise StorageError(
            f"The bucket {bucket} cannot be reached (no answer within {ANSWER_TIMEOUT_S:.0f} s): see the network, "
            "AWS_REGION and AWS_ENDPOINT_URL, and run the same command again."
        ) from error
    except tf.errors.NotFoundError as error:
        raise StorageError(f"There is no bucket {bucket}: see the name, and the region in AWS_REGION.") from error
    except tf.errors.PermissionDeniedError as error:
        raise StorageError(
            f"Access to the bucket {bucket} is denied: see the credentials (aws sts get-caller-identity); they need "
            "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject."
        ) from error
    except tf.errors.OpError as error:
        reason = error.message.strip(": ")
        raise StorageError(
            f"The bucket {bucket} cannot be reached ({reason}): see the network and AWS_REGION, and run the same "
            "command again."
        ) from error


def _call_with_timeout(question: Callable[[], Answer]) -> Answer:
    """Calls `question`, which cannot be interrupted, in a thread that is abandoned after the timeout.

    Raises:
      TimeoutError: it takes longer than `ANSWER_TIMEOUT_S`.
      Exception: as `question` raises.
    """
    answers: queue.SimpleQueue[tuple[Answer | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((question(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=ANSWER_TIMEOUT_S)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return cast(Answer, answer)
