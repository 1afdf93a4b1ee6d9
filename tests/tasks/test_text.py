import numpy as np

from sharpflat.tasks.text import PADDING, UNKNOWN, build_vocabulary, encode, split_words


def test_words_are_lower_cased_and_split_at_white_space() -> None:
    """Oracle: by hand."""
    assert split_words("  A Good\tfilm , isn't it ?") == [
        "a",
        "good",
        "film",
        ",",
        "isn't",
        "it",
        "?",
    ]


def test_vocabulary_goes_by_count_then_by_word() -> None:
    """Oracle: counted by hand; the order of the sentences must not matter."""
    sentences = ["b a c", "B c", "é b"]
    expected = ["<pad>", "<unk>", "b", "c", "a", "é"]
    assert build_vocabulary(sentences) == expected
    assert build_vocabulary(sentences[::-1]) == expected


def test_encoding_pads_cuts_and_marks_unknown_words() -> None:
    """Oracle: by hand."""
    vocabulary = ["<pad>", "<unk>", "film", "good"]
    tokens = encode(["Good film", "<pad> bad film", "film film film film"], vocabulary, length=3)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [[3, 2, PADDING], [UNKNOWN, UNKNOWN, 2], [2, 2, 2]]
