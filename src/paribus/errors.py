"""The one exception that reaches a user: one line that says what, where and how to mend it."""


class UserError(Exception):
    """Something the user can mend: a study file, a corpus, an option.

    The message is one line. The command line prints it without a traceback and exits with status 2.
    """


class DataError(UserError):
    """The text cannot be used as it is."""


class StudyError(UserError):
    """The study file, or an override of it, asks for something that cannot be."""


class AuditError(UserError):
    """The arms differ in something undeclared, or something declared equal is not. Exit status 1."""
