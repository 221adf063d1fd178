"""Paths that are not on the local disk. s3:// goes through TensorFlow I/O, which is loaded when such a path is named.

`fer.cli` makes every program ready for the paths in its flags; who calls the package otherwise does it with `ready`.
From then on `tf.io.gfile` and `tf.data` read and write s3:// as they do a local path, with these differences, which
are the store's or the client's (tensorflow_io 0.36):

- An object is whole or absent by itself: it appears when the file that writes it is closed. It is written anew as a
  whole by every flush.
- A folder is there when something is in it. `makedirs` makes none.
- `rename` copies and deletes one object after the other, so a folder is not renamed as one; it takes every path that
  begins like the one it is given ("a/step-1" also "a/step-10"), unless that ends with "/"; and it fails on an empty
  object. Nothing of ours renames in a store.
- A whole bucket is "s3://bucket/"; without the slash it is an error.
- What is asked whether something is there says no where access is denied or the store cannot be reached, too. A "no"
  that decides something is therefore asked for with `surely`.

A request that fails is repeated with growing, random pauses by the client itself, about half a minute long; AWS's own
variable AWS_MAX_ATTEMPTS says how often. A server that accepts a request and goes silent is given up after
S3_REQUEST_TIMEOUT_MSEC, 15 s, each time, so after three minutes in all; the first question to a store, and each whose
answer is short, after `REACH`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import queue
import re
import threading
from collections.abc import Iterator
from typing import Callable, TypeVar, cast

from fer.errors import StorageError, UserError, install_command

Answer = TypeVar("Answer")

ANSWER_TIMEOUT_S = 60.0  # seconds in which a store must answer the first question, all repetitions together


def is_remote(path: str) -> bool:
    """Whether a path is somewhere else than on the local disk."""
    return "://" in path


def register_filesystems(*texts: str) -> None:
    """Makes TensorFlow understand the paths in some texts (a path, several with commas between them, a configuration).

    Raises:
      UserError: there is an s3:// path, and the extra `s3` is not installed, its bucket does not exist, is denied or
        cannot be reached, or it has two slashes in a row: files would be written to one place and looked for at
        another.
    """
    for text in texts:
        doubled = re.search(r"s3://[^,\s'\"]*?//[^,\s'\"]*", text)
        if doubled:
            raise UserError(f"{doubled[0]} has two slashes in a row: write one.")
    for bucket in dict.fromkeys(bucket for text in texts for bucket in re.findall(r"s3://([^/,\s'\"]+)", text)):
        _load_s3()
        _check_bucket(bucket)


def check_or_raise(path: str, there: Callable[[str], bool]) -> bool:
    """What `there(path)` says, such as tf.io.gfile.exists; a "no" only of a store that answers.

    Raises:
      UserError: as `ready`.
    """
    if not is_remote(path):
        return there(path)
    found = ask(path, lambda: there(path))
    if not found:
        register_filesystems(path)
        found = ask(path, lambda: there(path))
    return found


def ask(path: str, question: Callable[[], Answer]) -> Answer:
    """Returns the answer to a question whose answer is short, such as whether a file is there.

    A store that answers with a byte now and then is given up by no limit of the client's.

    Args:
      path: in a store.
      question: asks for it.

    Raises:
      StorageError: there is no answer within `REACH`.
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
    """Within it, what goes wrong with a store that one of the paths is in becomes a sentence.

    Raises:
      StorageError: says that what was written before is whole, and how to go on.
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
        raise  # of the device or the program: no store of ours answers with these
    except tf.errors.OpError as error:
        stores = [path for path in paths if is_remote(path)]
        if not stores:
            raise
        reason = (error.message or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"The connection to {' or '.join(stores)} broke ({reason}). What was written before is whole: run the same "
            "command again, and it goes on from there."
        ) from error


def check_not_bucket(path: str) -> None:
    """Refuses the path of a whole bucket.

    Raises:
      UserError: it is one.
    """
    if re.fullmatch(r"\w+://[^/]*/*", path):
        raise UserError(f"{path} is a whole bucket: name a place in it, as in {path.rstrip('/')}/fer2013.")


@functools.cache
def _load_s3() -> None:
    # Read by the client when it is first used. Downloads in parts cost a second request for each read, and a server
    # that does not answer would be waited for five minutes, ten times.
    os.environ.setdefault("S3_DISABLE_MULTI_PART_DOWNLOAD", "1")
    os.environ.setdefault("S3_CONNECT_TIMEOUT_MSEC", "5000")
    os.environ.setdefault("S3_REQUEST_TIMEOUT_MSEC", "15000")  # without a byte
    os.environ.setdefault("AWS_RETRY_MODE", "standard")
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "8")  # with pauses of up to 1, 2, 4, ... 20 s
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")  # as other clients name it
    if endpoint:
        os.environ.setdefault("S3_ENDPOINT", endpoint)
    try:
        import tensorflow_io  # noqa: F401 - registers s3:// with TensorFlow
    except ImportError as error:
        raise UserError(
            f"s3:// paths need TensorFlow I/O: install the extra s3 ({install_command('s3')}) on Python 3.9 to 3.11; "
            "later versions of Python have none."
        ) from error
    # Since 0.35 its client aborts a process that has done its work and is ending (tensorflow/io issue 1912). So the
    # process ends here, with its exit code, once Python itself is done, and before the destructors that do it.
    system = ctypes.CDLL(None)
    if hasattr(system, "on_exit"):  # the GNU C library's
        system.on_exit(system._exit, None)


def _check_bucket(bucket: str) -> None:
    """Asks a store for a bucket: of all that can be asked, this tells errors apart."""
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
    """Calls `question`, which nothing can interrupt, in a thread that is left behind when its time is up.

    Raises:
      TimeoutError: it takes longer than `REACH`.
      Exception: what `question` raises.
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
