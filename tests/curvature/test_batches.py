"""Data that are read batch by batch at each pass."""

import copy
import gc
import random
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn
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

from sharpflat.curvature import HessianOperator, top_eigenpairs
from sharpflat.tasks.losses import cross_entropy, mse

from .small import SAMPLES, assert_same, every_kind, network


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4, dtype=torch.float64), torch.arange(SAMPLES) % 3


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


class Rows(Dataset):
    """Reads several samples at once."""

    def __init__(self, samples: TensorDataset) -> None:
        self.samples = samples

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        return self.samples[rows]


class RandomRows(Sampler):
    """Draws which samples are read at once."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __iter__(self):
        return iter(torch.randperm(SAMPLES, generator=self.generator).split(7))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


LOADERS = {
    "shuffle": lambda samples: DataLoader(samples, 7, shuffle=True),
    "generator": lambda samples: DataLoader(samples, 7, shuffle=True, generator=seeded()),
    "sampler": lambda samples: DataLoader(
        samples, 7, sampler=RandomSampler(samples, generator=seeded())
    ),
    "sampler without batches": lambda samples: DataLoader(
        Rows(samples), None, sampler=RandomRows(seeded())
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


@every_kind
@pytest.mark.parametrize(("memory_limit", "chunk_size"), [(0, 3), (None, None)])
def test_ragged_and_shuffled(data, kind, memory_limit, chunk_size):
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
def test_lists_of_batches_of_any_size(data, kind):
    """Oracle: the same samples in one tensor; equal weights of batches would be wrong."""
    model, (x, y) = network(), data
    cuts = [(0, 1), (1, 16), (16, SAMPLES)]
    batches = [(x[i:j], y[i:j]) for i, j in cuts]
    assert_same(kind(model, cross_entropy, batches), kind(model, cross_entropy, x, y))
    reversed_ = tuple([b[0], b[1]] for b in reversed(batches))
    assert_same(kind(model, cross_entropy, reversed_), kind(model, cross_entropy, x, y))


def test_passes(data):
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


def test_graphs_of_batches_of_one_sample_are_kept_within_the_limit():
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
def test_random_numbers_of_others_are_left_alone(data, name):
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


def test_a_copys_random_numbers_are_left_alone_too(data):
    """Oracle: the state of torch's generator before."""
    loader = DataLoader(TensorDataset(*data), 7, shuffle=True)
    operator = copy.deepcopy(HessianOperator(network(), cross_entropy, loader, memory_limit=0))
    before = torch.get_rng_state()
    operator @ torch.ones(operator.shape[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("through", ["own", "arrays", "concatenated", "subset"])
def test_what_a_dataset_holds_is_looked_at(data, through):
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
def test_batches_written_in_place(data, memory_limit, through_data, which):
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


def test_rebind_casts_batches_as_it_casts_tensors(data):
    """Oracle: the operator over tensors that were cast."""
    model = network()
    operator = HessianOperator(model, cross_entropy, DataLoader(TensorDataset(*data), 5))
    model.float()
    operator.rebind()
    expected = HessianOperator(model, cross_entropy, data[0].float(), data[1])
    v = torch.ones(operator.shape[0])
    assert torch.allclose(operator @ v, expected @ v, rtol=1e-4, atol=1e-6)


def test_sixty_thousand_samples():
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


def test_an_iterator(data):
    """Oracle: a generator is spent after a pass."""
    for batches in ((data for _ in range(3)), iter([data]), map(tuple, [data])):
        with pytest.raises(ValueError, match=r"can be read once only.*list\(batches\)"):
            HessianOperator(network(), cross_entropy, batches)


@pytest.mark.parametrize("memory_limit", [0, None])
def test_other_samples(data, memory_limit):
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


def test_what_is_no_pair(data):
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


def test_shares_that_repeat_samples(data):
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


def test_a_loader_of_one_iterator(data):
    """Oracle: reading it in the middle of an epoch would start that epoch anew."""
    loader = DataLoader(TensorDataset(*data), 7, num_workers=1, persistent_workers=True)
    with pytest.raises(ValueError, match="persistent_workers=True"):
        HessianOperator(network(), cross_entropy, loader)


def test_sampling_by_number(data):
    """Oracle: samples of batches have no numbers."""
    operator = HessianOperator(network(), cross_entropy, DataLoader(TensorDataset(*data), 5))
    assert not operator.can_be_sampled
    assert HessianOperator(network(), cross_entropy, *data).can_be_sampled
    for ask in (operator.sample_sizes, lambda: operator.sampled(torch.ones(1), torch.ones(1))):
        with pytest.raises(ValueError, match="samples of batches cannot be chosen"):
            ask()
