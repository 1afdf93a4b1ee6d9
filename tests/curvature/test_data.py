"""Any data: batches that are read at each pass, nested inputs and outputs, sums with counts."""

import copy
import gc
import random
import weakref
from collections import OrderedDict, UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from sharpflat.curvature import (
    CurvatureOperator,
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    UnsupportedLossError,
    top_eigenpairs,
)
from sharpflat.curvature.fingerprint import Fingerprint
from sharpflat.tasks.losses import cross_entropy, mse

from .dense import dense

KINDS = [HessianOperator, GGNOperator, FunctionalHessianOperator]
every_kind = pytest.mark.parametrize("kind", KINDS)
SAMPLES = 23
PADDING = -100


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4, dtype=torch.float64), torch.arange(SAMPLES) % 3


def assert_same(found: CurvatureOperator, expected: CurvatureOperator) -> None:
    """Products with three random vectors agree to rounding."""
    generator = torch.Generator().manual_seed(7)
    V = torch.randn(expected.shape[0], 3, generator=generator, dtype=torch.float64)
    assert found.shape == expected.shape
    assert float((found @ V - expected @ V).norm() / (expected @ V).norm()) <= 1e-12


def move(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)


class Noisy(Dataset):
    """Augments its samples at random."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.full((4,), float(i), dtype=torch.float64) + torch.rand(4), i % 3


class Flipped(Noisy):
    """Mirrors some samples at random: the same values at other places."""

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        x = torch.arange(4, dtype=torch.float64) + i
        return (x.flip(0) if torch.rand(()) < 0.5 else x), i % 3


class Own(Dataset):
    """Holds its samples under names of its own, in tensors or arrays."""

    def __init__(self, x: Tensor, y: Tensor, *, in_arrays: bool) -> None:
        self.images, self.labels = (x.numpy(), y.numpy()) if in_arrays else (x, y)
        self.parent = self  # which ends no search for what it holds

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(self.images[i]), torch.as_tensor(self.labels[i])


class Shuffled(Sampler):
    """Draws from a module's own generator."""

    def __init__(self, module) -> None:
        self.module = module

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self):
        order = list(range(SAMPLES))
        self.module.shuffle(order)
        return iter(order)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


LOADERS = {
    "shuffle": lambda samples: DataLoader(samples, 7, shuffle=True),
    "generator": lambda samples: DataLoader(samples, 7, shuffle=True, generator=seeded()),
    "sampler": lambda samples: DataLoader(
        samples, 7, sampler=RandomSampler(samples, generator=seeded())
    ),
    "sampler of a batch sampler": lambda samples: DataLoader(
        samples,
        batch_sampler=BatchSampler(
            SubsetRandomSampler(range(SAMPLES), generator=seeded()), 7, drop_last=False
        ),
    ),
    "Python's": lambda samples: DataLoader(samples, 7, sampler=Shuffled(random)),
    "NumPy's": lambda samples: DataLoader(samples, 7, sampler=Shuffled(np.random)),
}


class Once:
    """Yields its batches in the first pass only, as a wrapped iterator does."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.left = batches

    def __iter__(self):
        left, self.left = self.left, []
        return iter(left)


class TestBatches:
    """The samples of all batches, whatever their sizes and order."""

    @every_kind
    @pytest.mark.parametrize(("memory_limit", "chunk_size"), [(0, 3), (None, None)])
    def test_ragged_and_shuffled(self, data, kind, memory_limit, chunk_size):
        """Oracle: the same samples in one tensor, before and after the parameters moved."""
        model = network()
        loader = DataLoader(TensorDataset(*data), batch_size=7, shuffle=True)
        limits = {"memory_limit": memory_limit, "chunk_size": chunk_size}
        operator = kind(model, cross_entropy, loader, **limits)
        assert operator.num_samples == SAMPLES
        for _ in range(2):
            assert_same(operator, kind(model, cross_entropy, *data))
            assert_same(operator, kind(model, cross_entropy, *data))
            move(model)

    @every_kind
    def test_lists_of_batches_of_any_size(self, data, kind):
        """Oracle: the same samples in one tensor; equal weights of batches would be wrong."""
        model, (x, y) = network(), data
        cuts = [(0, 1), (1, 16), (16, SAMPLES)]
        batches = [(x[i:j], y[i:j]) for i, j in cuts]
        assert_same(kind(model, cross_entropy, batches), kind(model, cross_entropy, x, y))
        reversed_ = tuple([b[0], b[1]] for b in reversed(batches))
        assert_same(kind(model, cross_entropy, reversed_), kind(model, cross_entropy, x, y))

    def test_passes(self, data):
        """Oracle: passes, counted: one when built, one a θ if graphs are kept, else one a call."""
        passes = []

        class Counted(list):
            def __iter__(self):
                passes.append(1)
                return super().__iter__()

        batches = Counted([(data[0][:9], data[1][:9]), (data[0][9:], data[1][9:])])
        for limit, expected in ((2**40, 3), (0, 5)):
            passes.clear()
            model = network()
            operator = HessianOperator(model, cross_entropy, batches, memory_limit=limit)
            for _ in range(2):
                operator @ torch.ones(operator.shape[0], 2)
                operator @ torch.ones(operator.shape[0])
                move(model)
            assert len(passes) == expected

    def test_graphs_of_batches_of_one_sample_are_kept_within_the_limit(self):
        """Oracle: passes, counted, where 60 graphs hold at least two activations each."""
        width, passes = 100, []

        class Counted(list):
            def __iter__(self):
                passes.append(1)
                return super().__iter__()

        batches = Counted((torch.randn(1, 2), torch.tensor([i % 3])) for i in range(60))
        model = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 3))
        least = 60 * 2 * width * 4
        for limit, expected in ((least, 3), (100 * least, 2)):
            passes.clear()
            operator = HessianOperator(model, cross_entropy, batches, memory_limit=limit)
            for _ in range(2):
                operator @ torch.ones(operator.shape[0])
            assert len(passes) == expected

    @pytest.mark.parametrize("name", LOADERS)
    def test_random_numbers_of_others_are_left_alone(self, data, name):
        """Oracle: the order of a training epoch without a product in its middle."""
        model, orders = network(), []
        for measures in (False, True):
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            loader = LOADERS[name](TensorDataset(*data))
            operator = HessianOperator(model, cross_entropy, loader if measures else [data])
            order = []
            for epoch in range(2):
                for x, _ in loader:
                    order.append(x)
                    if epoch == 0:
                        move(model)
                        operator @ torch.ones(operator.shape[0])
            orders.append(torch.cat(order))
        assert torch.equal(*orders)

    def test_a_copys_random_numbers_are_left_alone_too(self, data):
        """Oracle: the state of torch's generator before."""
        loader = DataLoader(TensorDataset(*data), 7, shuffle=True)
        operator = copy.deepcopy(HessianOperator(network(), cross_entropy, loader, memory_limit=0))
        before = torch.get_rng_state()
        operator @ torch.ones(operator.shape[0])
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("through", ["own", "arrays", "concatenated", "subset"])
    def test_what_a_dataset_holds_is_looked_at(self, data, through):
        """Oracle: other samples are refused as in a list, also where all graphs are kept."""
        x, y = data
        own = Own(x, y, in_arrays=through == "arrays")
        whole = {
            "concatenated": ConcatDataset([TensorDataset(x, y), Own(x, y, in_arrays=False)]),
            "subset": Subset(own, range(SAMPLES)),
        }.get(through, own)
        operator = HessianOperator(network(), cross_entropy, DataLoader(whole, 7))
        v = torch.ones(operator.shape[0])
        operator @ v
        x.mul_(3)
        with pytest.raises(ValueError, match=r"other values.*operator\.rebind\(\)"):
            operator @ v
        operator.rebind()
        twice = through == "concatenated"
        expected = (torch.cat([x, x]), torch.cat([y, y])) if twice else (x, y)
        assert_same(operator, HessianOperator(operator.model, cross_entropy, *expected))

    @pytest.mark.parametrize("memory_limit", [0, None])
    @pytest.mark.parametrize("through_data", [False, True])
    @pytest.mark.parametrize("which", [0, 1])
    def test_batches_written_in_place(self, data, memory_limit, through_data, which):
        """Oracle: they are other samples: refused, and taken by rebind()."""
        batches = [(data[0][:9], data[1][:9]), (data[0][9:], data[1][9:])]
        model = network()
        operator = HessianOperator(model, cross_entropy, batches, memory_limit=memory_limit)
        v = torch.ones(operator.shape[0])
        operator @ v
        written = batches[1][which]
        (written.data if through_data else written).copy_(written.flip(0))
        with pytest.raises(ValueError, match=r"other (values|pairs).*operator\.rebind\(\)"):
            operator @ v
        operator.rebind()
        assert_same(operator, HessianOperator(model, cross_entropy, *data))

    def test_rebind_casts_batches_as_it_casts_tensors(self, data):
        """Oracle: the operator over tensors that were cast."""
        model = network()
        operator = HessianOperator(model, cross_entropy, DataLoader(TensorDataset(*data), 5))
        model.float()
        operator.rebind()
        expected = HessianOperator(model, cross_entropy, data[0].float(), data[1])
        v = torch.ones(operator.shape[0])
        assert torch.allclose(operator @ v, expected @ v, rtol=1e-4, atol=1e-6)

    def test_sixty_thousand_samples(self):
        """Oracle: eigenpairs of one tensor, to 1e-6; batches that are alive, counted."""
        generator = torch.Generator().manual_seed(0)
        scales = torch.linspace(1, 3, 6, dtype=torch.float64)
        x = scales * torch.randn(60_000, 6, generator=generator, dtype=torch.float64)
        y = torch.arange(60_000) % 3
        model = nn.Linear(6, 3).double()
        batches = BatchSampler(RandomSampler(x), 4096, drop_last=False)
        alive, most = weakref.WeakSet(), []

        class Rows(Dataset):
            def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
                inputs = x[rows]
                alive.add(inputs)
                most.append(len(alive))
                return inputs, y[rows]

        loader = DataLoader(Rows(), sampler=batches, batch_size=None)
        operator = HessianOperator(model, cross_entropy, loader, memory_limit=0)
        found = top_eigenpairs(operator, 3, tol=1e-8)
        gc.collect()
        assert found.converged
        passes, rest = divmod(len(most), 15)  # of 15 batches
        assert (passes >= 3, rest) == (True, 0)
        assert max(most) <= 3  # the first, for the probe, the one at work and the next
        expected = top_eigenpairs(HessianOperator(model, cross_entropy, x, y), 3, tol=1e-8)
        assert torch.allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-6)
        signs = (found.eigenvectors * expected.eigenvectors).sum(dim=0).sign()
        assert torch.allclose(found.eigenvectors * signs, expected.eigenvectors, atol=1e-6)


class TestFingerprint:
    """Two passes are told apart by their samples alone."""

    def fingerprint(
        self, *batches: tuple[object, Tensor], first: Fingerprint | None = None
    ) -> Fingerprint:
        found = Fingerprint(first)
        for batch in batches:
            found.add(*batch)
        return found

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.uint8, torch.complex64])
    def test_order_and_batches_do_not_matter(self, dtype):
        """Oracle: the same samples, permuted and cut otherwise; then one changed in one value."""
        x, y = (100 * torch.rand(50, 3, 40)).to(dtype), torch.arange(50)
        order = torch.randperm(50)
        first = self.fingerprint(({"a": (x, y)}, y))
        cut = [({"a": (x[i], y[i])}, y[i]) for i in order.split(7)]
        assert self.fingerprint(*cut, first=first).difference() is None
        other = x.clone()
        other[13, 2, 20] += 1
        found = self.fingerprint(({"a": (other, y)}, y), first=first).difference()
        assert found == "other values in inputs['a'][0] than the first pass had"
        found = self.fingerprint(({"a": (x, y)}, y.roll(1)), first=first).difference()
        assert found == "other pairs of inputs and targets than the first pass had"

    @pytest.mark.parametrize("padding", [0, -100])
    @pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bfloat16])
    def test_padding_alone_may_differ(self, dtype, padding):
        """Oracle: rows of token ids or features cut at other lengths; then one changed."""
        tokens = torch.randint(1, 1000, (20, 6)).to(dtype)
        tokens[:, 4:] = padding
        first = self.fingerprint((tokens[:10, :4], tokens[:10]), (tokens[10:], tokens[10:]))
        again = self.fingerprint(
            (tokens[5:], tokens[5:]), (tokens[:5, :4], tokens[:5]), first=first
        )
        assert again.difference() is None
        tokens[3, 0] = 3 if tokens[3, 0] != 3 else 5
        assert self.fingerprint((tokens, tokens), first=first).difference()

    def test_noise_in_samples_of_several_lengths(self):
        """Oracle: no two features are the same as before."""
        batches = [(torch.randn(8, 3 + i, 4), torch.arange(8)) for i in range(4)]
        first = self.fingerprint(*batches)
        assert self.fingerprint(*batches[::-1], first=first).difference() is None
        noisy = [(x + 0.01 * torch.randn(x.shape), y) for x, y in batches]
        found = self.fingerprint(*noisy, first=first).difference()
        assert found == "other values in inputs than the first pass had"


class TestRefusedBatches:
    """What does not bring the same samples again is refused, with the remedy."""

    def test_an_iterator(self, data):
        """Oracle: a generator is spent after a pass."""
        for batches in ((data for _ in range(3)), iter([data]), map(tuple, [data])):
            with pytest.raises(ValueError, match=r"can be read once only.*list\(batches\)"):
                HessianOperator(network(), cross_entropy, batches)

    @pytest.mark.parametrize("memory_limit", [0, None])
    def test_other_samples(self, data, memory_limit):
        """Oracle: each of these brings other samples at the second pass."""
        samples = TensorDataset(*data)
        twice = RandomSampler(samples, replacement=True)
        loaders = {
            "spent": Once([data]),
            "noise": DataLoader(Noisy(), 5),
            "flips": DataLoader(Flipped(), 5),
            "replacement": DataLoader(samples, 5, sampler=twice),
            "drop_last": DataLoader(samples, 5, shuffle=True, drop_last=True),
        }
        for name, loader in loaders.items():
            operator = HessianOperator(network(), cross_entropy, loader, memory_limit=memory_limit)
            v = torch.ones(operator.shape[0])
            message = r"0 samples where" if name == "spent" else r"other values in inputs"
            for _ in range(2):  # nothing of the refused pass is kept
                with pytest.raises(ValueError, match=rf"{message}.*without random augmentation"):
                    operator @ v

    def test_what_is_no_pair(self, data):
        """Oracle: the documentation: pairs, and the way to make them."""
        x, y = data
        for batch, said in (
            ({"x": x, "labels": y}, "a dict"),
            ((x, x, y), "a tuple of 3"),
            (x, "a Tens"),
        ):
            with pytest.raises(ValueError, match=rf"a batch is {said}.*collate_fn"):
                HessianOperator(network(), cross_entropy, [batch])
        for inputs in (x, {"x": x}, 3):
            with pytest.raises(ValueError, match="targets are missing: give both"):
                HessianOperator(network(), cross_entropy, inputs)
        with pytest.raises(ValueError, match="the batches hold no samples"):
            HessianOperator(network(), cross_entropy, [])

    def test_shares_that_repeat_samples(self, data):
        """Oracle: what two processes would read together; equal shares count each sample once."""
        for count, repeats in ((SAMPLES, True), (SAMPLES - 1, False)):
            samples = TensorDataset(*(part[:count] for part in data))
            sampler = DistributedSampler(samples, num_replicas=2, rank=0)
            loader = DataLoader(samples, batch_size=4, sampler=sampler)
            if repeats:
                with pytest.raises(ValueError, match=r"DistributedSampler reads 24 of 23.*Subset"):
                    HessianOperator(network(), mse, loader)
            else:
                assert HessianOperator(network(), mse, loader).num_samples == count // 2

    def test_a_loader_of_one_iterator(self, data):
        """Oracle: reading it in the middle of an epoch would start that epoch anew."""
        loader = DataLoader(TensorDataset(*data), 7, num_workers=1, persistent_workers=True)
        with pytest.raises(ValueError, match="persistent_workers=True"):
            HessianOperator(network(), cross_entropy, loader)

    def test_sampling_by_number(self, data):
        """Oracle: samples of batches have no numbers."""
        operator = HessianOperator(network(), cross_entropy, DataLoader(TensorDataset(*data), 5))
        assert not operator.can_be_sampled
        assert HessianOperator(network(), cross_entropy, *data).can_be_sampled
        for ask in (operator.sample_sizes, lambda: operator.sampled(torch.ones(1), torch.ones(1))):
            with pytest.raises(ValueError, match="samples of batches cannot be chosen"):
                ask()


@dataclass
class Output:
    """As Hugging Face's models return."""

    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    note: str | None = None


@dataclass
class MappingOutput(OrderedDict):
    """A mapping whose fields are attributes too, made from them alone."""

    logits: Tensor
    cache: object = None

    def __post_init__(self) -> None:
        self["logits"] = self.logits


class Named(nn.Module):
    """A model of keyword inputs, with outputs of any kind."""

    def __init__(self, wrap=lambda logits, hidden: logits) -> None:
        super().__init__()
        self.first, self.last, self.wrap = nn.Linear(4, 5), nn.Linear(5, 3), wrap

    def forward(self, values: Tensor, mask: Tensor | None = None) -> object:
        values = values if mask is None else values * mask
        hidden = self.first(values).tanh()
        return self.wrap(self.last(hidden), hidden)


WRAPS = {
    "dict": (lambda f, h: {"f": f, "h": h}, lambda out: out["f"]),
    "tuple": (lambda f, h: (h, f), lambda out: out[1]),
    "dataclass": (
        lambda f, h: Output(logits=f, hidden=(h, h), note="x"),
        lambda out: out.logits,
    ),
    "mapping dataclass": (
        lambda f, h: MappingOutput(logits=f, cache=object()),
        lambda out: out["logits"],
    ),
    "with integers": (lambda f, h: (f, f.argmax(1)), lambda out: out[0]),
}


class TestNested:
    """Inputs and outputs in structures."""

    @every_kind
    def test_inputs(self, data, kind):
        """Oracle: the masked tensor, given alone."""
        x, y = data
        mask = (x > 0).to(x.dtype)
        model = Named().double()
        expected = kind(model, mse, x * mask, y)
        forms = [(x, mask), [x, mask], {"values": x, "mask": mask}, UserDict(values=x, mask=mask)]
        forms += [{"values": x * mask, "mask": None}, OrderedDict(mask=mask, values=x)]
        for inputs in forms:
            operator = kind(model, mse, inputs, y, chunk_size=9)
            assert_same(operator, expected)
            chosen = torch.tensor([3, 1]), torch.tensor([1.0, 0.5])
            assert_same(operator.sampled(*chosen), expected.sampled(*chosen))
        loader = DataLoader(
            TensorDataset(x, mask, y), 6, collate_fn=lambda rows: _collated(rows), shuffle=True
        )
        assert_same(kind(model, mse, loader), expected)

    @every_kind
    def test_targets(self, data, kind):
        """Oracle: the loss with its second target built in."""
        x, _ = data

        def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
            return (targets["weight"] * (outputs - targets["y"]).square().sum(1)).mean()

        weights = torch.rand(SAMPLES, dtype=torch.float64)
        goals = torch.randn(SAMPLES, 3, dtype=torch.float64)
        model = network()
        root = weights.sqrt()[:, None]
        expected = HessianOperator(
            model,
            lambda f, t: mse_of(f * t[:, 3:], t[:, :3]),
            x,
            torch.cat([goals * root, root], 1),
        )
        if kind is HessianOperator:
            assert_same(kind(model, loss, x, {"y": goals, "weight": weights}), expected)
        H, G, F = (dense(k(model, loss, x, {"y": goals, "weight": weights})) for k in KINDS)
        assert torch.allclose(G + F, H, atol=1e-12)

    @every_kind
    @pytest.mark.parametrize("name", WRAPS)
    def test_outputs(self, data, kind, name):
        """Oracle: the operator of the logits alone, over all samples and over a sample."""
        wrap, logits = WRAPS[name]
        plain, wrapped = Named().double(), Named(wrap).double()
        wrapped.load_state_dict(plain.state_dict())
        expected = kind(plain, cross_entropy, *data)
        chosen = torch.tensor([3, 1]), torch.tensor([1.0, 0.5])
        operator = kind(wrapped, lambda f, t: cross_entropy(logits(f), t), *data, chunk_size=9)
        assert_same(operator, expected)
        assert_same(operator.sampled(*chosen), expected.sampled(*chosen))
        with pytest.raises(UnsupportedLossError, match="told from one tensor"):
            operator.sample_sizes()

    def test_a_loss_of_several_outputs(self, data):
        """Oracle: all outputs side by side in one tensor, one of them an input of the other."""

        def loss(parts: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
            logits, hidden = parts
            return cross_entropy(logits * hidden[:, :1], targets) + hidden.square().sum(1).mean()

        pair = Named(lambda f, h: (f, h)).double()
        joined = Named(lambda f, h: torch.cat([f, h], dim=1)).double()
        joined.load_state_dict(pair.state_dict())
        chosen = torch.tensor([3, 1]), torch.tensor([1.0, 0.5])
        for kind in KINDS:
            expected = kind(joined, lambda f, t: loss((f[:, :3], f[:, 3:]), t), *data)
            assert_same(kind(pair, loss, *data), expected)
            assert_same(kind(pair, loss, *data).sampled(*chosen), expected.sampled(*chosen))

    def test_what_is_no_tensor_is_refused(self, data):
        """Oracle: samples cannot be chosen from a list of words, nor from a number."""
        x, y = data
        for extra, said in ((["a"] * SAMPLES, "is a str"), (3, "is a int")):
            with pytest.raises(ValueError, match=rf"inputs\['extra'\].*{said}"):
                HessianOperator(network(), mse, {"x": x, "extra": extra}, y)
        with pytest.raises(ValueError, match=r"inputs\['s'\] is a single number"):
            HessianOperator(network(), mse, {"x": x, "s": torch.tensor(1.0)}, y)
        with pytest.raises(UnsupportedLossError, match="no tensor of real numbers"):
            HessianOperator(Named(lambda f, h: object()).double(), mse, x, y)


def mse_of(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(dim=1).mean()


def _collated(rows: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
    x, mask, y = (torch.stack(part) for part in zip(*rows, strict=True))
    return {"values": x, "mask": mask}, y


WORDS, TOKENS = 5, 6


def language_model() -> nn.Module:
    return nn.Sequential(nn.Embedding(WORDS, 3), nn.Tanh(), nn.Linear(3, WORDS)).double()


def sum_and_count(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    flat = outputs.flatten(0, 1), targets.flatten()
    return functional.cross_entropy(*flat, reduction="sum"), (targets != PADDING).sum()


def mean_over_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def padded_tokens(lengths: list[int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, WORDS, (len(lengths), TOKENS), generator=generator)
    y = torch.randint(1, WORDS, (len(lengths), TOKENS), generator=generator)
    beyond = torch.arange(TOKENS) >= torch.tensor(lengths)[:, None]
    return x.masked_fill(beyond, 0), y.masked_fill(beyond, PADDING)


LENGTHS = {
    "at the end": [6] * 20 + [1, 2, 0],
    "at the start": [0, 0, 0, 1] + [6] * 19,
    "everywhere": [1 + i % 6 for i in range(SAMPLES)],
    "nowhere": [6] * SAMPLES,
}


BAD_PAIRS = {
    "mean beside a count": (
        lambda f, t: (mean_over_tokens(f, t), (t != PADDING).sum()),
        "first is not a sum over samples",
    ),
    "count that is a mean": (
        lambda f, t: (sum_and_count(f, t)[0], (t != PADDING).double().mean()),
        "count does not add up",
    ),
    "three": (lambda f, t: (*sum_and_count(f, t), 1), r"returned a tuple; it must return"),
    "a number": (lambda f, t: 1.0, "returned a float"),
}


class TestSumsWithCounts:
    """The mean over tokens that are not padding."""

    @every_kind
    @pytest.mark.parametrize("chunk_size", [None, 4])
    @pytest.mark.parametrize("where", LENGTHS)
    def test_padding(self, kind, chunk_size, where):
        """Oracle: all samples in one evaluation of the mean; for G a token a sample."""
        model = language_model()
        x, y = padded_tokens(LENGTHS[where])
        kept = (y != PADDING).flatten()
        tokens = x.flatten()[kept][:, None], y.flatten()[kept][:, None]
        expected = kind(model, mean_over_tokens, *tokens)  # each of them one sample, equally
        operator = kind(model, sum_and_count, x, y, chunk_size=chunk_size)
        assert_same(operator, expected)
        batches = [(x[i : i + 5], y[i : i + 5]) for i in range(0, SAMPLES, 5)]
        assert_same(kind(model, sum_and_count, batches, chunk_size=chunk_size), expected)

    @every_kind
    def test_batches_padded_to_their_longest(self, kind):
        """Oracle: as above; shuffling pads each sample to another length at each pass."""
        model = language_model()
        x, y = padded_tokens(LENGTHS["everywhere"])
        kept = (y != PADDING).flatten()
        tokens = x.flatten()[kept][:, None], y.flatten()[kept][:, None]

        def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
            inputs, targets = (torch.stack(part) for part in zip(*rows, strict=True))
            longest = int((targets != PADDING).sum(dim=1).max())
            return inputs[:, :longest], targets[:, :longest]

        samples = TensorDataset(x, y)
        loader = DataLoader(samples, 3, shuffle=True, collate_fn=collate)
        operator = kind(model, sum_and_count, loader, memory_limit=0)
        for _ in range(3):
            assert_same(operator, kind(model, mean_over_tokens, *tokens))
        sampler = RandomSampler(samples, replacement=True)
        loader = DataLoader(samples, 3, sampler=sampler, collate_fn=collate)
        with pytest.raises(ValueError, match="other values in"):
            dense(kind(model, sum_and_count, loader, memory_limit=0))
        loader = DataLoader(samples, 3, shuffle=True, collate_fn=collate)
        with pytest.raises(UnsupportedLossError, match=r"padding.*pair \(sum, count\)"):
            dense(kind(model, mean_over_tokens, loader))

    @pytest.mark.parametrize("kind", [HessianOperator, GGNOperator])
    def test_class_weights(self, data, kind):
        """Oracle: torch's weighted mean over all samples, differentiated densely."""
        weight = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64)
        model, (x, y) = nn.Linear(4, 3).double(), data  # linear, so that H = G

        def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            total = functional.cross_entropy(outputs, targets, weight, reduction="sum")
            return total, weight[targets].sum()

        def mean(flat: Tensor) -> Tensor:
            outputs = x @ flat[:12].view(3, 4).T + flat[12:]
            return functional.cross_entropy(outputs, y, weight)

        theta = torch.cat([p.detach().flatten() for p in model.parameters()])
        expected = torch.autograd.functional.hessian(mean, theta)
        loader = DataLoader(TensorDataset(x, y), 4, shuffle=True)
        assert torch.allclose(dense(kind(model, loss, loader)), expected, rtol=0, atol=1e-13)
        assert torch.allclose(dense(kind(model, loss, x, y)), expected, rtol=0, atol=1e-13)

    @every_kind
    def test_half_precision_holds_large_sums(self, kind):
        """Oracle: single precision; the sums alone pass the 65,504 that half precision holds."""
        x = torch.full((4000, 1), 4.0)
        model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh())
        nn.init.constant_(model[0].weight, 0.05)

        def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
            return (outputs.float() - 5 * targets.float()).square().sum(), len(targets)

        expected = kind(model, loss, x, x) @ torch.ones(1)
        found = kind(model.half(), loss, x.half(), x.half()) @ torch.ones(1)
        assert torch.allclose(found, expected, rtol=2e-2)

    def test_sampling_is_refused(self):
        """Oracle: the method's documentation."""
        operator = HessianOperator(language_model(), sum_and_count, *padded_tokens([6] * 4))
        assert not operator.can_be_sampled
        with pytest.raises(UnsupportedLossError, match="pairs"):
            operator.sample_sizes()

    @pytest.mark.parametrize("name", BAD_PAIRS)
    def test_refuses_other_pairs(self, name):
        """Oracle: the documentation: a sum and what it is over, both additive."""
        loss, message = BAD_PAIRS[name]
        x, y = padded_tokens(LENGTHS["everywhere"])
        with pytest.raises(UnsupportedLossError, match=message):
            HessianOperator(language_model(), loss, x, y)

    def test_refuses_a_count_that_depends_on_the_parameters(self):
        """Oracle: the derivative of a quotient holds that of its denominator."""

        def soft(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            weights = outputs.sigmoid()
            return (weights * outputs.square()).sum(), weights.sum()

        x, y = padded_tokens([6] * 4)
        operator = HessianOperator(
            language_model(), lambda f, t: (soft(f, t)[0], soft(f, t)[1].detach()), x, y
        )
        assert (operator @ torch.ones(operator.shape[0])).isfinite().all()
        with pytest.raises(UnsupportedLossError, match=r"depends on the parameters.*detach\(\)"):
            HessianOperator(language_model(), soft, x, y) @ torch.ones(operator.shape[0])

    def test_refuses_nothing_but_padding(self):
        """Oracle: a mean over no tokens is not a number."""
        x, y = padded_tokens([0] * 4)
        operator = HessianOperator(language_model(), sum_and_count, x, y)
        with pytest.raises(UnsupportedLossError, match="add up to 0"):
            operator @ torch.ones(operator.shape[0])


class TestLaterBatches:
    """A loss that is no mean over samples is refused wherever it shows."""

    @every_kind
    @pytest.mark.parametrize("carries", ["targets", "loss"])
    def test_padding_in_the_last_batch(self, kind, carries):
        """Oracle: the mean over tokens is refused for the same samples in one tensor."""

        class WithLoss(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = language_model()

            def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
                return mean_over_tokens(self.model(tokens), labels)

        x, y = padded_tokens([6] * 19 + [5, 2, 3, 1])
        cuts = [(i, min(i + 5, SAMPLES)) for i in range(0, SAMPLES, 5)]
        if carries == "targets":
            batches = [(x[i:j], y[i:j]) for i, j in cuts]
            arguments = (language_model(), mean_over_tokens, batches)
        else:
            batches = [((x[i:j], y[i:j]), y[i:j]) for i, j in cuts]
            arguments = (WithLoss(), lambda loss, _: loss, batches)
        with pytest.raises(UnsupportedLossError, match="not a mean over samples"):
            dense(kind(*arguments))
