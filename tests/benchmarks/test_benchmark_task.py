import torch

from sharpflat.benchmarks.task import BenchmarkTask, descend


def test_batches_are_shuffled_epochs_that_a_seed_decides(task: BenchmarkTask) -> None:
    """Oracle: an epoch holds every sample once."""
    batches = task.batches(25, seed=3)
    epoch = [next(batches) for _ in range(3)]
    assert [len(targets) for _, targets in epoch] == [25, 25, 10]
    rows = torch.cat([inputs for inputs, _ in epoch if isinstance(inputs, torch.Tensor)])
    assert isinstance(task.inputs, torch.Tensor)
    assert torch.equal(rows.sort(dim=0)[0], task.inputs.sort(dim=0)[0])
    assert not torch.equal(rows, task.inputs)
    again = next(task.batches(25, seed=3))
    assert torch.equal(epoch[0][1], again[1])


def test_descend_is_plain_sgd(task: BenchmarkTask) -> None:
    """Oracle: one step by hand."""
    inputs, targets = next(task.batches(20, seed=1))
    gradient = torch.autograd.grad(task.loss(task.outputs(inputs), targets), task.parameters)
    flat = torch.cat([g.reshape(-1) for g in gradient])
    expected = task.theta() - 0.01 * flat
    descend(task, steps=1, batch_size=20, seed=1)
    torch.testing.assert_close(task.theta(), expected)


def test_in_double_copies_the_model(task: BenchmarkTask) -> None:
    """Oracle: the float32 model does not move with the copy."""
    theta = task.theta()
    double = task.in_double()
    double.move_to(torch.zeros(double.num_parameters, dtype=torch.float64))
    assert double.parameters[0].dtype == torch.float64
    assert torch.equal(task.theta(), theta)
