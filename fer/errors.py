"""The one exception whose text is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake that the user can mend.

    Its text is one sentence that names the file, row, field or value at fault and says what to do.
    The command line prints it alone, without a traceback, and exits with 1 (see `fer.cli`).
    """
