"""The exceptions whose text is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake that the user can mend.

    Its text is one sentence that names the file, row, field or value at fault and says what to do.
    The command line prints it alone, without a traceback, and exits with 1 (see `fer.cli`).
    """


class StorageError(UserError):
    """A disk or a store cannot be read or written now. Nothing is wrong with what was asked for: it can go on later."""


class Stopped(Exception):  # noqa: N818  it is no error
    """A run that was asked to stop has stopped in good order.

    Its text says how to go on; the command line prints it and exits with `exit_code`.
    """

    def __init__(self, text: str, exit_code: int):
        super().__init__(text)
        self.exit_code = exit_code
