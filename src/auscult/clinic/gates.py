"""Gates: what a release must reach, what it should, and the best that was published."""

from dataclasses import dataclass
from operator import ge, le

from auscult.clinic.rate import Rate
from auscult.clinic.score import TOP, Figures


@dataclass(frozen=True, slots=True)
class Gate:
    """One quantity of the table.

    Attributes:
        quantity: What is measured.
        published: The best that was published, in words.
        bound: What a release must reach; None for a quantity without a gate.
        goal: What it should reach.
        rate: What was measured.
        most: Whether bound and goal are upper ones.
        never: What must not happen at all, counted; None where there is no such thing.
    """

    quantity: str
    published: str
    bound: float | None
    goal: float
    rate: Rate
    most: bool = False
    never: int | None = None

    @property
    def met(self) -> bool:
        """Whether the gate is met; one without units or bound is."""
        return self.bound is None or (self._reaches(self.bound) and not self.never)

    @property
    def goal_met(self) -> bool:
        """Whether the goal is reached as well."""
        return self._reaches(self.goal) and not self.never

    def cells(self) -> tuple[str, str, str, str, str]:
        """As a row of text: quantity, what was measured, gate, goal, and how they compare."""
        sign = "<=" if self.most else ">="
        never = "" if self.never is None else f", {self.never} critical"
        bound = "-" if self.bound is None else f"{sign} {self.bound:.2f}"
        reached = "goal reached" if self.goal_met else "gate met" if self.bound is not None else "short of the goal"
        state = ("not measured" if not self.rate.units else reached) if self.met else "gate missed"
        return self.quantity, f"{self.rate}{never}", bound, f"{sign} {self.goal:.2f}", state

    def _reaches(self, bound: float) -> bool:
        return not self.rate.units or (le if self.most else ge)(round(self.rate.value, 9), bound)


def gates(ours: Figures) -> tuple[Gate, ...]:
    """The table of gates and goals for one doctor's figures."""
    return (
        Gate("detection of faults", ".94 (false alarms unpublished)", 0.90, 0.95, ours.detection),
        Gate(
            "false alarms on healthy runs, none critical",
            ".36 / .72 / 1.00",
            0.05,
            0.02,
            ours.false_alarms,
            most=True,
            never=ours.critical_false_alarms,
        ),
        Gate("cause, top-1 lenient", ".63 any match", 0.60, 0.75, ours.causes[1, True]),
        Gate("cause, top-3 lenient", "-", 0.75, 0.90, ours.causes[TOP, True]),
        Gate("cause, top-1 strict", "-", None, 0.65, ours.causes[1, False]),
        Gate("layer named right, cases that sit in a layer", ".49 - .64", 0.65, 0.80, ours.layer),
        Gate("classes that an invariant decides, detected", "18 of 20 silent errors", 1.0, 1.0, ours.exact),
    )
