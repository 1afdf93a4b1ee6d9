"""Sentences to token ids: lower-cased words between blanks, a vocabulary of training words [A]."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PADDING = 0
UNKNOWN = 1
SPECIAL_WORDS = ("<pad>", "<unk>")
"""What the vocabulary shows at :data:`PADDING` and :data:`UNKNOWN`."""


def split_words(sentence: str) -> list[str]:
    """The lower-cased words of ``sentence``, split at white space."""
    return sentence.lower().split()


def build_vocabulary(sentences: Sequence[str]) -> list[str]:
    """The special words, then all words of ``sentences``, the most frequent first.

    Words of equal count stand in the order of their code points, so that the vocabulary depends on
    nothing but the sentences.

    Example:
        >>> build_vocabulary(["A good film .", "a film"])
        ['<pad>', '<unk>', 'a', 'film', '.', 'good']
    """
    counts = Counter(word for sentence in sentences for word in split_words(sentence))
    return [*SPECIAL_WORDS, *sorted(counts, key=lambda word: (-counts[word], word))]


def encode(
    sentences: Sequence[str], vocabulary: Sequence[str], *, length: int
) -> NDArray[np.int32]:
    """Token ids, (N, length), padded behind with :data:`PADDING` and cut off after ``length``.

    Example:
        >>> encode(["good film", "a bad film"], ["<pad>", "<unk>", "film", "good"], length=2)
        array([[3, 2],
               [1, 1]], dtype=int32)
    """
    first = len(SPECIAL_WORDS)
    ids = {word: token for token, word in enumerate(vocabulary[first:], start=first)}
    tokens = np.full((len(sentences), length), PADDING, dtype=np.int32)
    for row, sentence in zip(tokens, sentences, strict=True):
        words = split_words(sentence)[:length]
        row[: len(words)] = [ids.get(word, UNKNOWN) for word in words]
    return tokens
