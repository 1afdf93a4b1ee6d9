"""What the Transformers share: their layers, and what they refuse."""

from torch import nn

FEEDFORWARD_FACTOR = 4
"""Hidden width of a Transformer's feed-forward block over the model's width [A]."""


def encoder_layers(
    model: str, *, width: int, depth: int, heads: int, norm_first: bool
) -> nn.ModuleList:
    """``depth`` layers of self-attention and a feed-forward block with GELU, without dropout.

    GELU has second derivatives everywhere [A].

    Args:
        model: Name of the model, for messages.
        width: Hidden size, a multiple of ``heads``.
        depth: Number of layers.
        heads: Number of attention heads a layer.
        norm_first: Whether layer norm comes before each block, or after it.

    Raises:
        ValueError: If ``width`` is not a multiple of ``heads``.
    """
    if width % heads:
        raise ValueError(
            f"{model} width {width} is not a multiple of heads {heads}: each head takes "
            "width / heads of it; change one of them"
        )
    # Not nn.TransformerEncoder, which starts all layers as copies of one.
    return nn.ModuleList(
        nn.TransformerEncoderLayer(
            width,
            heads,
            dim_feedforward=FEEDFORWARD_FACTOR * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=norm_first,
        )
        for _ in range(depth)
    )
