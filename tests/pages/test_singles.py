import re
from collections.abc import Callable

from auscult.core.finding import Evidence, Finding
from auscult.core.run import Run
from auscult.pages.cards import cards
from auscult.pages.charts import pictures
from auscult.pages.singles import singles, singles_table

SHARE = Evidence("rows_sum_to_one", "", 0, 1.0, 0.99)
NAMED = Evidence("<b>no_such</b>", "no.such.path", 9, float("nan"))


def test_every_figure_of_a_finding_leads_somewhere(healthy: Run, finding: Callable[..., Finding]) -> None:
    drawn_too = Evidence("grad_norm", "layers.1.bias", 5, 1.0)
    found = [
        finding(code="T001", evidence=(SHARE, drawn_too)),
        finding(code="T002", evidence=(NAMED, SHARE)),
    ]
    drawn = pictures(healthy, found)
    assert singles(found, drawn) == (SHARE, NAMED), "each once, and none that is drawn"
    html, table = cards(found, drawn), singles_table(found, drawn)
    targets = re.findall(r'<th scope="row"><a class="evidence" href="#([^"]*)"', html)
    assert targets == ["single-1", "heatmap", "single-2", "single-1"] and html.count('<th scope="row">') == 4
    rows = table.split("<tr id=")[1:]
    assert len(rows) == 2 and "<b>" not in table
    assert "probabilities" in rows[0] and "#finding-1" in rows[0] and "#finding-2" in rows[0]
    assert "NaN" in rows[1] and "#finding-1" not in rows[1]


def test_where_everything_is_drawn_there_is_no_table(healthy: Run, finding: Callable[..., Finding]) -> None:
    found = [finding(evidence=(Evidence("grad_norm", "", 5, 1.0),))]
    assert singles_table(found, pictures(healthy, found)) == ""
