import pytest
import torch
from threadpoolctl import ThreadpoolController

from sharpflat.benchmarks.threads import one_numpy_thread


def numpy_threads() -> list[int]:
    libraries = ThreadpoolController().lib_controllers
    return [library.num_threads for library in libraries if "openblas" in library.filepath]


def test_numpy_computes_on_one_thread_and_torch_as_before() -> None:
    """Oracle: what the libraries say, for NumPy and SciPy from their wheels."""
    if not numpy_threads():
        pytest.skip("NumPy was built with another library")
    before, torch_before = numpy_threads(), torch.get_num_threads()
    with pytest.raises(KeyError), one_numpy_thread():
        assert set(numpy_threads()) == {1}
        assert torch.get_num_threads() == torch_before
        raise KeyError
    assert numpy_threads() == before
