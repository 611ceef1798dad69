"""The one exception that carries a message meant for the user."""


class EffiSegError(Exception):
    """Something the user can mend: says what was found, where, what was expected and what to do.

    Stage scripts print it on one line and exit with status 1; see `effiseg.cli`.
    """
