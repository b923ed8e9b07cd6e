"""Visible: text from a run with nothing hidden in it, so that no name can pose as another."""


def shown(text: str) -> str:
    r"""A name from a run with control and format characters made visible, as `\x1b`, so that it cannot pose as another.

    Terminal escapes, line breaks, NUL and bidirectional overrides all become their Python escape; letters of any
    script stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def shown_lines(text: str) -> str:
    """Like `shown` for sentences: line breaks and tabs become spaces."""
    return shown(" ".join(text.split()))
