"""Where people already are: a run in the tracker and the trainer that they use, each imported only when it is named."""

from auscult.integrations.required import required

required("torch", "PyTorch", "'auscult[train]'", "all of `auscult.integrations` works on")
