"""Origin: where the first non-finite number of a step arose."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from auscult.core.finding import Phase

Kind = Literal["nan", "inf", "overflow"]
Subject = Literal["argument", "target", "parameter", "buffer", "output", "loss", "gradient", "update", "norm"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the first non-finite number of a step arose, as far as it could be found.

    Attributes:
        step: The step.
        phase: The part of the step; None where it could not be told.
        subject: What the first non-finite number was; None where it could not be told. A `norm` that is not finite
            although every element is has overflowed.
        path: The module (of an output or a gradient), the parameter or the buffer concerned; `""` is the model itself,
            or what surrounds it (a loss, an argument); None where it could not be told.
        module_type: Class of the module at `path`, or of the one that owns the parameter or buffer; `""` where none.
        kind: `nan` where a NaN was among the first non-finite numbers, `inf` where only infinities, `overflow` for a
            norm of finite numbers.
        dtype: Its dtype, as `float16`; `""` where it is not known.
        operation: The torch function that made it, as `log`; `""` where it is not known.
        line: File name and line of the user's code that called this function, as `model.py:57`; `""` likewise.
        parameters: Parameters whose gradients were not finite at this step, in the order of the forward pass.
        detail: What else is known of it, as half a sentence; may be empty.
        reason: Why phase or path are None, as a clause; `""` where both are known.
    """

    step: int
    phase: Phase | None = None
    subject: Subject | None = None
    path: str | None = None
    module_type: str = ""
    kind: Kind | None = None
    dtype: str = ""
    operation: str = ""
    line: str = ""
    parameters: tuple[str, ...] = ()
    detail: str = ""
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether both the part of the step and the place are known."""
        return self.phase is not None and self.path is not None

    def __str__(self) -> str:
        if self.phase is None:
            return f"The origin of the non-finite numbers of step {self.step} is unknown: {self.reason}."
        made = " from finite numbers" if self.subject == "output" or self.operation else ""
        by = f" by {self.operation}" if self.operation else ""
        line = f" at {self.line}" if self.line else ""
        detail = f"; {self.detail}" if self.detail else ""
        where = f" Where exactly is unknown: {self.reason}." if self.path is None else ""
        update = " in the update" if self.subject == "update" else ""
        return f"At step {self.step} {self._subject()}{self._became()}{made}{by}{line}{update}{detail}.{where}"

    def _subject(self) -> str:
        """What became non-finite, as the subject of a sentence."""
        owner = f" ({self.module_type})" if self.module_type else ""
        if self.subject == "argument":
            return "an argument of the model"
        if self.subject == "target":
            return "a tensor that the loss was given"
        if self.subject == "loss":
            return "the loss"
        if self.subject == "norm":
            return "the norm of the gradients" if not self.path else f"the norm of the gradient of {self.path}"
        place = "" if self.path is None else f" of {self.path}{owner}" if self.path else f" of the model itself{owner}"
        if self.subject == "output":
            return f"the output{place}"
        if self.subject == "gradient":
            return f"the gradient{place}"
        if self.subject == "update":
            return f"the value{place}"
        return f"the {self.subject}{place.removeprefix(' of')}"

    def _became(self) -> str:
        dtype = f" in {self.dtype}" if self.dtype else ""
        if self.kind == "overflow":
            return f" overflowed{dtype} although every element was finite"
        became = "was already" if self.subject in ("argument", "target", "parameter", "buffer") else "became"
        return f" {became} {'NaN' if self.kind == 'nan' else 'infinite'}{dtype}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "parameters": list(self.parameters)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Origin":
        """The inverse of `to_dict`; keys that are not known are ignored."""
        known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
        return cls(**cast("dict[str, Any]", {**known, "parameters": tuple(plain.get("parameters", ()))}))
