"""Imported: where a run comes from that another tool logged, and what became of its log on the way, as HTML."""

from html import escape

from auscult.core.run import Run
from auscult.pages.tables import table
from auscult.pages.verdict import not_observed
from auscult.pages.wording import counted, listed, shown, shown_lines


def imported(run: Run) -> str:
    """What a reader must know of an imported run; nothing of one that auscult recorded itself."""
    origin = run.provenance
    if origin is None:
        return ""
    missing = listed(not_observed(run), 8)
    sentences = [
        f"This run was logged by {shown(origin.tool)} and imported from {shown(origin.source)}.",
        f"Its log has no {missing.replace(' and ', ' or ')}; rules that need them were not asked." if missing else "",
        "Left out, because it is no number over steps: "
        + ", ".join(f"{count:,} × {shown(kind)}" for kind, count in origin.left_out.items())
        + "."
        if origin.left_out
        else "",
        *(shown_lines(each) for each in origin.notes),
    ]
    rows = [(shown(old), shown(new)) for old, new in origin.renamed.items()]
    caption = f"{counted(len(rows), 'name')} that became another of the same meaning"
    return "".join(f"<p>{escape(each)}</p>" for each in sentences if each) + (
        table(caption, ("in the log", "here"), rows) if rows else ""
    )
