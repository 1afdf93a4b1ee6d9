"""A GPT: a Transformer that sees only what came before, and says what comes next."""

import torch
from torch import Tensor, nn

from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.models.encoder import encoder_layers


class CausalTransformer(nn.Module):
    """Token and position embeddings, layers of causal attention, layer norm, linear head.

    Source: Radford et al. (2019), "Language models are unsupervised multitask learners"; layer
    norm before each block, learned positions, and a head of its own weights [A].

    Args:
        dataset: Entry of the data set; its kind is ``"language"``.
        width: Hidden size, a multiple of ``heads``.
        depth: Number of layers.
        heads: Number of attention heads a layer.

    Raises:
        ValueError: If ``width`` is not a multiple of ``heads``.
    """

    future: Tensor

    def __init__(self, dataset: DatasetEntry, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        (length,) = dataset.input_shape
        self.embedding = nn.Embedding(dataset.num_classes, width)
        self.positions = nn.Embedding(length, width)
        self.layers = encoder_layers("gpt", width=width, depth=depth, heads=heads, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, dataset.num_classes)
        future = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
        self.register_buffer("future", future, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the token that follows each position.

        Args:
            tokens: int64 (N, L).

        Returns:
            (N, L, classes); those at a position depend on no token after it.
        """
        length = tokens.shape[1]
        hidden = self.embedding(tokens) + self.positions.weight[:length]
        for layer in self.layers:
            hidden = layer(hidden, src_mask=self.future[:length, :length])
        scores: Tensor = self.head(self.norm(hidden))
        return scores


def build(dataset: DatasetEntry, *, width: int, depth: int, heads: int) -> CausalTransformer:
    """A GPT of ``depth`` layers with hidden size ``width`` and ``heads`` heads."""
    return CausalTransformer(dataset, width=width, depth=depth, heads=heads)
