import socket
from pathlib import Path

import pytest

from sharpflat.tasks.errors import DataError
from sharpflat.tasks.prepare import prepare
from sharpflat.tasks.sources.access import downloading


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["mnist5k", "fashion_mnist5k", "cifar10_5k", "sst2_1k"])
def test_without_a_network_the_mirror_is_named(name: str, tmp_path: Path) -> None:
    """Oracle: a name look-up that fails, under torchvision's and urllib's real code."""
    with pytest.raises(DataError, match=f"cannot download.*{name}.*data_mirror=DIR") as caught:
        prepare(name, tmp_path / "out" / "data.npz")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_download_has_a_time_limit_and_leaves_none_behind() -> None:
    """Oracle: the socket module's default before, within and after."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(7.0)
    try:
        with downloading("made_up", "somewhere"):
            assert socket.getdefaulttimeout() == 30.0
        assert socket.getdefaulttimeout() == 7.0
    finally:
        socket.setdefaulttimeout(before)
