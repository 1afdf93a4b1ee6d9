"""Where convolutional networks pool."""


def pooled_sides(height: int, width: int, *, depth: int) -> list[tuple[int, int]]:
    """Sides of the image after each of ``depth`` blocks.

    A 2×2 max-pool halves both sides, rounding down. It is skipped where a side would fall below
    two pixels, so that small images leave deep models something to convolve.
    """
    sides = []
    for _ in range(depth):
        if min(height, width) // 2 >= 2:
            height, width = height // 2, width // 2
        sides.append((height, width))
    return sides
