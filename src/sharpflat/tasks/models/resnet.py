"""A residual network that normalises each sample by itself, with GroupNorm."""

from torch import Tensor, nn

from sharpflat.tasks.entries import DatasetEntry


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with GroupNorm, added to what came in: ``ReLU(skip(x) + f(x))``.

    Where the block changes the sides or the width, ``skip`` is a 1×1 convolution with GroupNorm,
    else the identity.

    Args:
        channels: Channels that come in.
        width: Channels that go out, a multiple of ``groups``.
        groups: Groups of channels that are normalised together.
        stride: Factor by which the sides shrink.
    """

    def __init__(self, channels: int, width: int, *, groups: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(groups, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(groups, width),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.skip = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False),
                nn.GroupNorm(groups, width),
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, width, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out: Tensor = self.relu(self.skip(x) + self.residual(x))
        return out


def build(dataset: DatasetEntry, *, width: int, blocks: int, groups: int) -> nn.Sequential:
    """A convolution of stride 2, ``blocks`` residual blocks, the mean over pixels, a linear head.

    Block i has ``width · 2^i`` channels, from i = 0, and each but the first halves the sides. The
    first convolution's stride spares three quarters of the pixels [A].

    Source: He et al. (2016), "Deep residual learning for image recognition"; GroupNorm for
    BatchNorm, under which samples of a batch depend on each other: Wu & He (2018).

    Raises:
        ValueError: If ``width`` is not a multiple of ``groups``.
    """
    if width % groups:
        raise ValueError(
            f"resnet width {width} is not a multiple of groups {groups}: each group normalises "
            "width / groups channels; change one of them"
        )
    layers: list[nn.Module] = [
        nn.Conv2d(dataset.input_shape[0], width, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(groups, width),
        nn.ReLU(),
    ]
    channels = width
    for block in range(blocks):
        wider, stride = width * 2**block, 1 if block == 0 else 2
        layers.append(ResidualBlock(channels, wider, groups=groups, stride=stride))
        channels = wider
    head = nn.Linear(channels, dataset.num_classes)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
