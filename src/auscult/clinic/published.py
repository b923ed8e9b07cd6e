"""Published: the figures that a notebook on "Building makemore Part 3" prints, as it prints them.

The notebook (`makemore_BatchNorm`) works through Karpathy's lecture of 2022; sections are its own. Section 2.4 prints
the tables of sections 2.1 and 2.2 once more; they are listed once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from auscult.core.run import Run

Demand = Literal["last digit", "four digits", "0.005", "chaotic"]
SATURATION_POINTS = 2.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One printed number.

    Attributes:
        section: Section of the notebook.
        case: The case that prints it.
        step: The update it belongs to.
        metric: What is to be read from the run; `loss/expected` and `parameters` are facts of the run.
        path: Parameter or module; `""` is the whole run.
        printed: The number as printed, saturation in per cent.
        demand: How close it is to be met. `last digit`: to one unit of it; `four digits`: to half a unit of the fourth,
            or to the last digit where fewer are printed; `0.005`: to that; `chaotic`: only a saturation, to two points.
    """

    section: str
    case: str
    step: int
    metric: str
    path: str
    printed: str
    demand: Demand

    def measured(self, run: Run) -> float:
        """The same number as a recorded run has it.

        Raises:
            KeyError: if the run did not observe it.
        """
        if self.metric == "parameters":
            return float(sum(each.size for each in run.parameters))
        if self.metric == "loss/expected":
            if run.audit is None or run.audit.expected is None:
                raise KeyError("The run did not observe its first loss call.")
            return run.audit.expected
        value = run.series(self.metric.format(path=self.path), "" if "{" in self.metric else self.path).at(self.step)
        return 100 * value if self._is_share else value

    def agrees(self, value: float) -> bool | None:
        """Whether a measured number meets the demand; None where nothing is demanded."""
        printed, exact = Decimal(self.printed), Decimal(value)
        if self.demand == "chaotic":
            return abs(value - float(printed)) <= SATURATION_POINTS if self._is_share else None
        if self.demand == "0.005":
            return abs(value - float(printed)) <= 0.005
        unit = Decimal(1).scaleb(int(printed.as_tuple().exponent))
        fourth = Decimal(1).scaleb(printed.adjusted() - 3)
        if self.demand == "last digit" or unit > fourth or not printed:
            return abs(exact.quantize(unit) - printed) <= unit
        return abs(exact - printed) <= fourth / 2

    def printed_alike(self, value: float) -> str:
        """A measured number with the digits of the printed one."""
        decimals = len(self.printed.partition("e")[0].partition(".")[2])
        sign = "+" if self.printed[0] in "+-" else ""
        return f"{value:{sign}.{decimals}{'e' if 'e' in self.printed else 'f'}}"

    @property
    def _is_share(self) -> bool:
        return self.metric.startswith("saturated")


@dataclass(frozen=True, slots=True)
class Block:
    """One printed table: a path per row, a metric per column.

    Attributes:
        section: Section of the notebook.
        case: The case that prints it.
        step: The update it belongs to.
        metrics: The columns.
        rows: The table; `-` is the whole run.
        demand: How close it is to be met; None asks for the last digit at the first step and for four digits later.
    """

    section: str
    case: str
    step: int
    metrics: tuple[str, ...]
    rows: str
    demand: Demand | None = None

    def lines(self) -> Iterator[tuple[Figure, ...]]:
        """The figures, row by row."""
        demand = self.demand or ("last digit" if self.step == 0 else "four digits")
        for row in self.rows.strip().splitlines():
            path, *printed = row.split()
            path = "" if path == "-" else path
            yield tuple(
                Figure(self.section, self.case, self.step, metric, path, number, demand)
                for metric, number in zip(self.metrics, printed, strict=True)
            )


ACTIVATIONS = ("activation_mean", "activation_std", "saturated_fraction")
LINEAR_ACTIVATIONS = ("activation_mean", "activation_std", "saturated/{path}")
ACTIVATION_GRADIENTS = ("activation_grad_mean", "activation_grad_std")
WEIGHT_GRADIENTS = ("grad_mean", "grad_std", "grad_to_data")
FIRST = ("parameters", "loss/expected", "loss")
LAST = ("train/loss", "dev/loss")

SPLITS = {"names": 32033, "train": 182625, "dev": 22655, "test": 22866}
"""Names in the file, and characters in each split."""

BLOCKS = (
    Block("1", "mlp-original", 0, FIRST, "- 11897 3.2958 27.8817"),
    Block("1.1", "mlp-softmax", 0, FIRST, "- 11897 3.2958 3.3221"),
    Block("1.2", "mlp-tanh", 0, FIRST, "- 11897 3.2958 3.3135"),
    Block("1.3", "mlp-kaiming", 0, FIRST, "- 11897 3.2958 3.3179"),
    Block("1.4", "mlp-batchnorm", 0, FIRST, "- 12297 3.2958 3.3147"),
    Block("1.5", "mlp-batchnorm-no-bias", 0, FIRST, "- 12097 3.2958 3.3239"),
    Block("1.8", "deep-no-fan-in", 0, FIRST, "- 46497 3.2958 3.7561"),
    Block("2.4", "deep-tanh", 0, FIRST, "- 46497 3.2958 3.2962"),
    Block("2.5", "deep-tanh-lr-0.001", 0, FIRST, "- 46497 3.2958 3.2962"),
    Block("3", "deep-batchnorm", 0, FIRST, "- 47551 3.2958 3.2870"),
    Block("3", "deep-batchnorm-gain-0.2", 0, FIRST, "- 47551 3.2958 3.2870"),
    Block("3", "deep-batchnorm-gain-5", 0, FIRST, "- 47551 3.2958 3.2870"),
    Block("3", "deep-batchnorm-no-fan-in", 0, FIRST, "- 47551 3.2958 3.2870"),
    Block("3", "deep-batchnorm-no-fan-in-lr-1", 0, FIRST, "- 47551 3.2958 3.2870"),
    Block("4", "deep-batchnorm-no-bias", 0, FIRST, "- 47024 3.2958 3.2870"),
    Block("2.1", "deep-tanh", 0, ACTIVATIONS, """
        layers.1  -0.02  0.75  20.25
        layers.3  -0.00  0.69  8.38
        layers.5  +0.00  0.67  6.62
        layers.7  -0.01  0.66  5.47
        layers.9  -0.02  0.66  6.12
    """),
    Block("2.1", "deep-tanh-gain-1", 0, ACTIVATIONS, """
        layers.1  -0.02  0.62  3.50
        layers.3  -0.00  0.48  0.03
        layers.5  +0.00  0.41  0.06
        layers.7  +0.00  0.35  0.00
        layers.9  -0.02  0.32  0.00
    """),
    Block("2.1", "deep-tanh-gain-3", 0, ACTIVATIONS, """
        layers.1  -0.03  0.85  47.66
        layers.3  +0.00  0.84  40.47
        layers.5  -0.01  0.84  42.38
        layers.7  -0.01  0.84  42.00
        layers.9  -0.03  0.84  42.41
    """),
    Block("2.2", "deep-tanh", 0, ACTIVATION_GRADIENTS, """
        layers.1  +0.000010  4.205588e-04
        layers.3  -0.000003  3.991179e-04
        layers.5  +0.000003  3.743020e-04
        layers.7  +0.000015  3.290473e-04
        layers.9  -0.000014  3.054035e-04
    """),
    Block("2.2", "deep-tanh-gain-0.5", 0, ACTIVATION_GRADIENTS, """
        layers.1  +0.000000  1.892402e-05
        layers.3  -0.000001  3.943546e-05
        layers.5  +0.000004  8.035369e-05
        layers.7  +0.000009  1.561152e-04
        layers.9  -0.000014  3.053498e-04
    """),
    Block("2.2", "deep-tanh-gain-3", 0, ACTIVATION_GRADIENTS, """
        layers.1  -0.000001  9.977493e-04
        layers.3  +0.000010  7.421208e-04
        layers.5  +0.000003  5.569782e-04
        layers.7  +0.000017  3.952166e-04
        layers.9  -0.000014  3.051525e-04
    """),
    Block("2.3", "deep-linear", 0, LINEAR_ACTIVATIONS, """
        layers.0  -0.04  1.65  55.12
        layers.1  -0.04  2.72  71.78
        layers.2  -0.00  4.67  81.31
        layers.3  +0.09  7.50  91.19
        layers.4  -0.72  12.78  93.69
    """),
    Block("2.3", "deep-linear", 0, ACTIVATION_GRADIENTS, """
        layers.0  +0.000053  2.619184e-03
        layers.1  -0.000006  1.583188e-03
        layers.2  +0.000043  9.519162e-04
        layers.3  +0.000019  5.457934e-04
        layers.4  -0.000013  3.161244e-04
    """),
    Block("2.3", "deep-linear-gain-0.5", 0, LINEAR_ACTIVATIONS, """
        layers.0  -0.01  0.49  5.06
        layers.1  -0.00  0.25  0.00
        layers.2  -0.00  0.13  0.00
        layers.3  +0.00  0.06  0.00
        layers.4  -0.00  0.03  0.00
    """),
    Block("2.3", "deep-linear-gain-0.5", 0, ACTIVATION_GRADIENTS, """
        layers.0  +0.000000  1.990759e-05
        layers.1  -0.000001  3.997084e-05
        layers.2  +0.000004  8.058026e-05
        layers.3  +0.000009  1.562154e-04
        layers.4  -0.000014  3.053490e-04
    """),
    Block("2.3", "deep-linear-gain-1", 0, LINEAR_ACTIVATIONS, """
        layers.0  -0.02  0.99  32.16
        layers.1  -0.01  0.98  31.12
        layers.2  -0.00  1.01  31.16
        layers.3  +0.01  0.97  31.66
        layers.4  -0.06  0.99  32.47
    """),
    Block("2.3", "deep-linear-gain-1", 0, ACTIVATION_GRADIENTS, """
        layers.0  +0.000005  3.190493e-04
        layers.1  -0.000004  3.204010e-04
        layers.2  +0.000015  3.229072e-04
        layers.3  +0.000018  3.127774e-04
        layers.4  -0.000014  3.055150e-04
    """),
    Block("2.4", "deep-tanh", 0, WEIGHT_GRADIENTS, """
        embedding.weight  -0.000031  1.365078e-03  1.364090e-03
        layers.0.weight   -0.000049  1.207430e-03  3.871660e-03
        layers.2.weight   +0.000016  1.096730e-03  6.601988e-03
        layers.4.weight   -0.000010  9.893572e-04  5.893091e-03
        layers.6.weight   -0.000011  8.623432e-04  5.158124e-03
        layers.8.weight   -0.000004  7.388576e-04  4.415211e-03
        layers.10.weight  -0.000000  2.364824e-02  2.328203e+00
    """),
    Block("2.4", "deep-tanh", 1001, ACTIVATIONS, """
        layers.1  -0.07  0.76  22.19
        layers.3  +0.00  0.72  12.16
        layers.5  -0.00  0.75  15.00
        layers.7  -0.04  0.74  13.25
        layers.9  -0.01  0.71  11.22
    """),
    Block("2.4", "deep-tanh", 1001, ACTIVATION_GRADIENTS, """
        layers.1  -0.000005  3.059083e-03
        layers.3  +0.000037  3.085332e-03
        layers.5  -0.000007  2.888205e-03
        layers.7  +0.000012  2.756316e-03
        layers.9  +0.000007  2.337389e-03
    """),
    Block("2.4", "deep-tanh", 1001, WEIGHT_GRADIENTS, """
        embedding.weight  +0.000772  9.714620e-03  9.714506e-03
        layers.0.weight   -0.000036  8.734045e-03  2.792835e-02
        layers.2.weight   +0.000085  7.424625e-03  4.417370e-02
        layers.4.weight   +0.000055  6.242012e-03  3.681917e-02
        layers.6.weight   +0.000007  6.161664e-03  3.650615e-02
        layers.8.weight   +0.000069  5.222000e-03  3.102275e-02
        layers.10.weight  +0.000000  2.281147e-02  3.229573e-01
    """),
    Block("2.5", "deep-tanh", 1000, ACTIVATIONS, """
        layers.1  -0.04  0.76  21.97
        layers.3  -0.01  0.72  11.00
        layers.5  +0.01  0.73  13.00
        layers.7  -0.05  0.73  13.34
        layers.9  +0.00  0.72  10.53
    """),
    Block("2.5", "deep-tanh", 1000, ACTIVATION_GRADIENTS, """
        layers.1  +0.000024  3.353992e-03
        layers.3  +0.000012  3.157344e-03
        layers.5  -0.000004  2.925863e-03
        layers.7  +0.000036  2.715700e-03
        layers.9  +0.000020  2.308167e-03
    """),
    Block("2.5", "deep-tanh", 1000, WEIGHT_GRADIENTS, """
        embedding.weight  +0.000980  1.189171e-02  1.189149e-02
        layers.0.weight   +0.000118  1.005291e-02  3.214556e-02
        layers.2.weight   +0.000033  7.821212e-03  4.653362e-02
        layers.4.weight   -0.000107  6.655620e-03  3.925851e-02
        layers.6.weight   -0.000017  6.086041e-03  3.605768e-02
        layers.8.weight   -0.000077  5.075620e-03  3.015269e-02
        layers.10.weight  +0.000000  2.056585e-02  2.909911e-01
    """),
    Block("2.5", "deep-no-fan-in", 1000, ACTIVATIONS, """
        layers.1  -0.09  0.99  96.66
        layers.3  -0.00  0.98  91.16
        layers.5  -0.03  0.98  90.97
        layers.7  -0.02  0.97  89.66
        layers.9  +0.05  0.97  89.59
    """, "chaotic"),
    Block("2.5", "deep-no-fan-in", 1000, ACTIVATION_GRADIENTS, """
        layers.1  +0.002828  1.145645e-01
        layers.3  -0.000349  4.318817e-02
        layers.5  -0.000362  1.563181e-02
        layers.7  +0.000011  5.319492e-03
        layers.9  -0.000002  1.716267e-03
    """, "chaotic"),
    Block("2.5", "deep-no-fan-in", 1000, WEIGHT_GRADIENTS, """
        embedding.weight  +0.000679  3.216631e-01  1.314245e-01
        layers.0.weight   -0.001150  1.615392e-01  8.442890e-02
        layers.2.weight   -0.000338  4.041072e-02  2.420024e-02
        layers.4.weight   +0.000032  1.410338e-02  8.395711e-03
        layers.6.weight   -0.000030  5.024395e-03  3.005201e-03
        layers.8.weight   +0.000008  1.732973e-03  1.035605e-03
        layers.10.weight  -0.000000  3.035493e-02  4.860011e-01
    """, "chaotic"),
    Block("3", "deep-batchnorm", 1000, ACTIVATIONS, """
        layers.2   -0.00  0.63  2.62
        layers.5   +0.00  0.64  2.47
        layers.8   -0.00  0.64  2.16
        layers.11  +0.00  0.65  1.81
        layers.14  -0.00  0.65  1.78
    """),
    Block("3", "deep-batchnorm", 1000, ACTIVATION_GRADIENTS, """
        layers.2   -0.000000  3.682960e-03
        layers.5   -0.000000  3.262612e-03
        layers.8   +0.000000  2.973733e-03
        layers.11  +0.000000  2.741114e-03
        layers.14  +0.000000  2.584295e-03
    """),
    Block("3", "deep-batchnorm", 1000, WEIGHT_GRADIENTS, """
        embedding.weight  +0.000000  1.019890e-02  1.018850e-02
        layers.0.weight   +0.000092  8.238443e-03  2.635843e-02
        layers.3.weight   +0.000031  7.318125e-03  4.377152e-02
        layers.6.weight   -0.000019  6.662030e-03  3.949899e-02
        layers.9.weight   -0.000019  5.821520e-03  3.468164e-02
        layers.12.weight  +0.000053  5.445302e-03  3.243371e-02
        layers.15.weight  -0.000165  1.046846e-02  6.281274e-02
    """),
    Block("3", "deep-batchnorm-gain-0.2", 1000, ACTIVATIONS, """
        layers.2   -0.00  0.64  2.56
        layers.5   +0.00  0.66  2.00
        layers.8   +0.00  0.66  1.47
        layers.11  +0.00  0.66  1.22
        layers.14  -0.00  0.66  0.72
    """),
    Block("3", "deep-batchnorm-gain-0.2", 1000, ACTIVATION_GRADIENTS, """
        layers.2   +0.000000  1.249227e-03
        layers.5   -0.000000  1.097231e-03
        layers.8   +0.000000  9.477262e-04
        layers.11  -0.000000  9.355907e-04
        layers.14  -0.000000  1.049949e-03
    """),
    Block("3", "deep-batchnorm-gain-0.2", 1000, WEIGHT_GRADIENTS, """
        embedding.weight  -0.000000  7.373110e-03  7.366231e-03
        layers.0.weight   +0.000311  1.391912e-02  2.291527e-01
        layers.3.weight   +0.000029  6.005433e-03  2.009046e-01
        layers.6.weight   -0.000016  5.219657e-03  1.905845e-01
        layers.9.weight   -0.000050  5.058551e-03  1.921162e-01
        layers.12.weight  -0.000113  5.221355e-03  2.003029e-01
        layers.15.weight  +0.000016  1.234930e-02  2.863980e-01
    """),
    Block("3", "deep-batchnorm-gain-5", 1000, ACTIVATIONS, """
        layers.2   -0.00  0.63  2.56
        layers.5   +0.00  0.63  2.44
        layers.8   -0.00  0.64  2.25
        layers.11  -0.00  0.64  2.31
        layers.14  +0.01  0.64  2.53
    """),
    Block("3", "deep-batchnorm-gain-5", 1000, ACTIVATION_GRADIENTS, """
        layers.2   -0.000000  3.890701e-03
        layers.5   -0.000000  3.427126e-03
        layers.8   +0.000000  3.132342e-03
        layers.11  -0.000000  2.841915e-03
        layers.14  -0.000000  2.471203e-03
    """),
    Block("3", "deep-batchnorm-gain-5", 1000, WEIGHT_GRADIENTS, """
        embedding.weight  +0.000000  7.996259e-03  7.988947e-03
        layers.0.weight   +0.000040  2.756465e-03  2.946202e-03
        layers.3.weight   +0.000025  2.622192e-03  5.261246e-03
        layers.6.weight   +0.000005  2.396153e-03  4.757304e-03
        layers.9.weight   -0.000004  2.191798e-03  4.369890e-03
        layers.12.weight  -0.000007  1.964616e-03  3.913205e-03
        layers.15.weight  -0.000026  3.231944e-03  6.537114e-03
    """),
    Block("3", "deep-batchnorm-no-fan-in", 1000, ACTIVATIONS, """
        layers.2   -0.00  0.63  2.62
        layers.5   +0.00  0.63  2.59
        layers.8   -0.00  0.64  2.34
        layers.11  -0.00  0.64  2.62
        layers.14  +0.00  0.64  2.50
    """),
    Block("3", "deep-batchnorm-no-fan-in", 1000, ACTIVATION_GRADIENTS, """
        layers.2   -0.000000  3.093912e-03
        layers.5   +0.000000  2.661322e-03
        layers.8   +0.000000  2.426212e-03
        layers.11  -0.000000  2.269458e-03
        layers.14  -0.000000  1.983030e-03
    """),
    Block("3", "deep-batchnorm-no-fan-in", 1000, WEIGHT_GRADIENTS, """
        embedding.weight  -0.000000  6.705949e-03  6.700180e-03
        layers.0.weight   -0.000003  2.026517e-03  1.977297e-03
        layers.3.weight   +0.000013  1.104427e-03  1.108055e-03
        layers.6.weight   +0.000005  9.566540e-04  9.497145e-04
        layers.9.weight   +0.000003  8.406342e-04  8.380435e-04
        layers.12.weight  +0.000001  7.872585e-04  7.840728e-04
        layers.15.weight  -0.000002  1.212762e-03  1.226612e-03
    """),
    Block("3", "deep-batchnorm-no-fan-in-lr-1", 1000, ACTIVATIONS, """
        layers.2   +0.02  0.63  3.91
        layers.5   -0.01  0.63  3.53
        layers.8   -0.02  0.63  3.09
        layers.11  -0.01  0.63  2.69
        layers.14  +0.02  0.64  3.34
    """),
    Block("3", "deep-batchnorm-no-fan-in-lr-1", 1000, ACTIVATION_GRADIENTS, """
        layers.2   -0.000000  4.081716e-03
        layers.5   +0.000000  3.513451e-03
        layers.8   +0.000000  3.458265e-03
        layers.11  -0.000000  3.407234e-03
        layers.14  +0.000000  3.295504e-03
    """),
    Block("3", "deep-batchnorm-no-fan-in-lr-1", 1000, WEIGHT_GRADIENTS, """
        embedding.weight  +0.000000  8.340195e-03  8.083643e-03
        layers.0.weight   +0.000061  2.610465e-03  2.540102e-03
        layers.3.weight   -0.000013  1.353517e-03  1.356913e-03
        layers.6.weight   -0.000005  1.178780e-03  1.169536e-03
        layers.9.weight   -0.000005  1.124870e-03  1.120831e-03
        layers.12.weight  +0.000006  1.150513e-03  1.145343e-03
        layers.15.weight  -0.000025  2.196451e-03  2.218108e-03
    """),
    Block("4", "deep-batchnorm-no-bias", 1000, ACTIVATIONS, """
        layers.2   -0.00  0.63  2.78
        layers.5   +0.00  0.64  2.56
        layers.8   -0.00  0.65  2.25
        layers.11  +0.00  0.65  1.69
        layers.14  +0.00  0.65  1.88
    """),
    Block("4", "deep-batchnorm-no-bias", 1000, ACTIVATION_GRADIENTS, """
        layers.2   +0.000000  2.640702e-03
        layers.5   -0.000000  2.245584e-03
        layers.8   -0.000000  2.045742e-03
        layers.11  -0.000000  1.983133e-03
        layers.14  -0.000000  1.952381e-03
    """),
    Block("4", "deep-batchnorm-no-bias", 1000, WEIGHT_GRADIENTS, """
        embedding.weight  +0.000000  8.020530e-03  8.012626e-03
        layers.0.weight   +0.000246  9.241071e-03  4.881088e-02
        layers.3.weight   +0.000113  7.132875e-03  6.964615e-02
        layers.6.weight   -0.000086  6.234302e-03  6.073738e-02
        layers.9.weight   +0.000052  5.742183e-03  5.631479e-02
        layers.12.weight  +0.000032  5.672202e-03  5.570123e-02
        layers.15.weight  -0.000082  1.209415e-02  1.160105e-01
    """),
    Block("4", "deep-batchnorm-no-bias", 1000, LAST, "- 2.4002976417541504 2.3982467651367188"),
)  # fmt: skip
"""Everything printed at the first step and after a thousand."""

LONG_BLOCKS = (
    Block("1", "mlp-original", 199_999, LAST, "- 2.1240577697753906 2.165454626083374", "0.005"),
    Block("1.1", "mlp-softmax", 199_999, LAST, "- 2.069589138031006 2.131074905395508", "0.005"),
    Block("1.2", "mlp-tanh", 199_999, LAST, "- 2.0355966091156006 2.1026785373687744", "0.005"),
    Block("1.3", "mlp-kaiming", 199_999, LAST, "- 2.0376644134521484 2.106989622116089", "0.005"),
    Block("1.4", "mlp-batchnorm", 199_999, LAST, "- 2.06659197807312 2.1050572395324707", "0.005"),
    Block("1.5", "mlp-batchnorm-no-bias", 199_999, LAST, "- 2.0674147605895996 2.1056838035583496", "0.005"),
)
"""Printed after 200,000 steps: losses on all of train and dev."""

_LOSSES = {
    "mlp-original": """
        27.8817 2.8967 2.5186 2.7832 2.0202 2.4007 2.4256 2.0593 2.3780 2.3469
        1.9764 2.3074 1.9807 2.4783 2.2580 2.1702 2.0531 1.8323 2.0267 1.8685
    """,
    "mlp-softmax": """
        3.3221 2.1900 2.4196 2.6067 2.0601 2.4988 2.3902 2.1344 2.3369 2.1299
        1.8329 2.2053 1.8540 2.4566 2.1879 2.1118 1.8956 1.8644 2.0326 1.8417
    """,
    "mlp-tanh": """
        3.3135 2.1648 2.3061 2.4541 1.9787 2.2930 2.4232 2.0680 2.3095 2.1207
        1.8269 2.2045 1.9797 2.3946 2.1000 2.1948 1.8619 1.7809 1.9673 1.8295
    """,
    "mlp-kaiming": """
        3.3179 2.1910 2.3270 2.5396 1.9468 2.3331 2.3852 2.1173 2.3159 2.2010
        1.8591 2.0881 1.9389 2.3913 2.0949 2.1458 1.7824 1.7249 1.9752 1.8614
    """,
    "mlp-batchnorm": """
        3.3147 2.1984 2.3375 2.4359 2.0119 2.2595 2.4775 2.1020 2.2788 2.1862
        1.9474 2.3010 1.9837 2.4523 2.3839 2.1987 1.9733 1.8668 1.9973 1.8347
    """,
    "mlp-batchnorm-no-bias": """
        3.3239 2.0322 2.5675 2.0125 2.2446 1.8897 2.0785 2.3681 2.2918 2.0238
        2.3673 2.3132 1.6414 1.9311 2.2231 2.0027 2.0997 2.4949 2.0199 2.1707
    """,
}


def printed_losses() -> Iterator[Figure]:
    """The loss on one batch, printed at every 10,000th step.

    That of `mlp-original` is chaotic: it begins confidently wrong and saturated, and is another one under every set of
    a processor's instructions.
    """
    sections = {block.case: block.section for block in LONG_BLOCKS}
    for case, row in _LOSSES.items():
        for number, printed in enumerate(row.split()):
            later: Demand = "chaotic" if case == "mlp-original" else "0.005"
            demand = later if number else "last digit"
            yield Figure(sections[case], case, 10_000 * number, "loss", "", printed, demand)
