"""Models: the networks of the workloads that the clinic does not have."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


class CharacterModel(nn.Module):
    """A character-level multilayer perceptron in the manner of makemore, 46,497 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(27, 10)
        widths = (30, 100, 100, 100, 100, 100)
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 27))

    def forward(self, characters: Tensor) -> Tensor:
        """Logits `(N, 27)` after characters `(N, 3)`."""
        return self.layers(self.embedding(characters))


class Transformer(nn.Module):
    """A GPT of six layers and width 384, 10.8 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(65, 384)
        self.positions = nn.Embedding(128, 384)
        self.blocks = nn.Sequential(*(AttentionBlock(384) for _ in range(6)))
        self.norm = nn.LayerNorm(384)
        self.head = nn.Linear(384, 65, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `(N * T, 65)` of tokens `(N, T)`."""
        stream = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(stream))).flatten(0, 1)


class AttentionBlock(nn.Module):
    """One pre-norm transformer block with six heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, stream: Tensor) -> Tensor:
        """The residual stream `(N, T, width)` after this block."""
        heads = self.attention(self.attention_norm(stream)).unflatten(-1, (3, 6, -1)).transpose(1, 3)
        query, key, value = heads.unbind(2)  # each (N, 6, T, width / 6)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.projection(mixed.transpose(1, 2).flatten(2))
        return stream + self.mlp(self.mlp_norm(stream))


class ResidualNetwork(nn.Module):
    """ResNet-18 for images of 32x32: a 3x3 stem instead of 7x7 and pooling, 11.2 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(512, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, 10)` of images `(N, 3, 32, 32)`."""
        return self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; halves the image where it widens."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = after // before
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, images: Tensor) -> Tensor:
        """Features `(N, after, H / stride, W / stride)` of `(N, before, H, W)`."""
        inner = functional.relu(self.norm1(self.conv1(images)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(images))
