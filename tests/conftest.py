"""One thread per test: small tensors gain nothing from more, and the suite runs on two cores."""

import torch

torch.set_num_threads(1)
