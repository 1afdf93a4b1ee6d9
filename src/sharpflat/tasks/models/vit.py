"""A Vision Transformer: an image as a sequence of its patches."""

import torch
from torch import Tensor, nn

from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.models.encoder import encoder_layers


class VisionTransformer(nn.Module):
    """Patches, each projected linearly, learned positions, encoder layers, mean, linear head.

    Source: Dosovitskiy et al. (2021), "An image is worth 16x16 words"; the mean over patches in
    place of a class token [A].

    Args:
        dataset: Entry of the data set; its images have sides that are multiples of ``patch``.
        width: Hidden size, a multiple of ``heads``.
        depth: Number of encoder layers.
        heads: Number of attention heads a layer.
        patch: Side of a patch in pixels.

    Raises:
        ValueError: If the sizes do not go together or with the images.
    """

    def __init__(
        self, dataset: DatasetEntry, *, width: int, depth: int, heads: int, patch: int
    ) -> None:
        super().__init__()
        channels, *sides = dataset.input_shape
        if any(side % patch for side in sides):
            raise ValueError(
                f"vit patch {patch} does not divide the sides of images of {sides[0]}×{sides[1]} "
                "pixels: give a divisor of both"
            )
        num_patches = (sides[0] // patch) * (sides[1] // patch)
        self.patches = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(num_patches, width))
        self.layers = encoder_layers("vit", width=width, depth=depth, heads=heads, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, dataset.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (N, classes) of images (N, C, H, W)."""
        hidden = self.patches(images).flatten(start_dim=2).transpose(1, 2) + self.positions
        for layer in self.layers:
            hidden = layer(hidden)
        scores: Tensor = self.head(self.norm(hidden).mean(dim=1))
        return scores


def build(
    dataset: DatasetEntry, *, width: int, depth: int, heads: int, patch: int
) -> VisionTransformer:
    """A Vision Transformer of ``depth`` layers over patches of ``patch``×``patch`` pixels."""
    return VisionTransformer(dataset, width=width, depth=depth, heads=heads, patch=patch)
