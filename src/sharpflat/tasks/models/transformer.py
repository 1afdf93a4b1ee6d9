"""The Transformer encoder of the SST-2 task: 2 layers, hidden 64, 8 heads [S], the rest [A]."""

import torch
from torch import Tensor, nn

from sharpflat.tasks.data import select
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.models.encoder import encoder_layers

#: Sequences that are padded to one length.
GROUP_SIZE = 64


class TransformerClassifier(nn.Module):
    """Embedding, encoder layers, mean over the words, linear head.

    Token ids are embedded and rows of values projected, sinusoidal positions are added, and
    the encoder layers have layer norm after each block [A].

    Args:
        dataset: Entry of the data set; its kind is ``"text"`` or ``"sequence"``.
        width: Hidden size, a multiple of ``heads``.
        depth: Number of encoder layers.
        heads: Number of attention heads a layer.

    Raises:
        ValueError: If ``width`` is not a multiple of ``heads``.
    """

    positions: Tensor

    def __init__(self, dataset: DatasetEntry, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embedding: nn.Module
        if dataset.vocabulary_size is not None:
            self.embedding = nn.Embedding(dataset.vocabulary_size, width)
        else:
            self.embedding = nn.Linear(dataset.input_shape[-1], width)
        self.layers = encoder_layers(
            "transformer", width=width, depth=depth, heads=heads, norm_first=False
        )
        self.head = nn.Linear(width, dataset.num_classes)
        positions = sinusoidal_positions(dataset.input_shape[0], width)
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Class scores of each sequence.

        Args:
            rows: Token ids, int64 (N, L), or values (N, L, features).
            mask: bool (N, L), true where there is a word; each row has at least one.

        Returns:
            (N, classes); what stands where ``mask`` is false has no part in it.
        """
        # Attention costs the square of the length: of SST-2's 1,000 sentences, 10 words on average
        # and 51 at most, a Hessian-vector product takes a tenth in groups of like length.
        groups = torch.split(torch.argsort(mask.sum(dim=1), stable=True), GROUP_SIZE)
        scores = torch.cat([self._scores(*select((rows, mask), group)) for group in groups])
        return scores[torch.argsort(torch.cat(groups))]

    def _scores(self, rows: Tensor, mask: Tensor) -> Tensor:
        hidden = self.embedding(rows) + self.positions[: rows.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~mask)
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        scores: Tensor = self.head(pooled)
        return scores


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Fixed position codes, (length, width): sines and cosines of geometric wavelengths.

    Source: Vaswani et al. (2017), "Attention is all you need", section 3.5.
    """
    position = torch.arange(length).unsqueeze(1)
    frequency = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    codes = torch.zeros(length, width)
    codes[:, 0::2] = torch.sin(position * frequency)
    codes[:, 1::2] = torch.cos(position * frequency[: width // 2])
    return codes


def build(dataset: DatasetEntry, *, width: int, depth: int, heads: int) -> TransformerClassifier:
    """A Transformer of ``depth`` layers with hidden size ``width`` and ``heads`` heads."""
    return TransformerClassifier(dataset, width=width, depth=depth, heads=heads)
