"""The one exception for input that the user can mend."""


class InputError(Exception):
    """Bad input: one line saying what was found, where, and what was expected.

    Entry points print the message without a traceback and exit with code 2.
    """
