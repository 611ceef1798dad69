"""The one exception that carries a message meant for the user."""

import re


class EffiSegError(Exception):
    """Something the user can mend: says what was found, where, what was expected and what to do.

    Stage scripts print it on one line and exit with status 1; see `effiseg.cli`.
    """


def masked(text: str) -> str:
    """The text without names, passwords and tokens of addresses, as in http://user:password@host/?token=secret."""
    text = re.sub(r"(\w+://)[^\s'\"]*@", r"\1***@", text)
    key = r"([?&][\w-]*(?:token|password|secret|key|signature)[\w-]*=)"
    return re.sub(key + r"[^&\s'\"]+?(?=[&\s'\"]|:\s|$)", r"\1***", text, flags=re.I)
