"""Errors that a person can act on. The command line prints them as one line and exits with their code."""


class UpwellError(Exception):
    """Something failed while running."""

    exit_code = 1


class BadRequest(UpwellError):
    """The request was wrong: an unknown option, a bad file, an impossible value."""

    exit_code = 2
