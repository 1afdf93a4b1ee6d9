"""``sharpflat``, and ``python -m sharpflat``."""

import sys

from sharpflat import __version__


def main() -> None:
    """Run one command of the study, or say what has to be installed for it."""
    if sys.argv[1:] == ["--version"]:  # where the library is installed alone, too
        print(f"sharpflat {__version__}")
        return
    try:
        from sharpflat.cli import main as run

        run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "sharpflat":
            raise
        sys.exit(
            f"sharpflat: the study's commands need {error.name}, which is not installed: "
            'pip install "sharpflat[workflow]", or "sharpflat[benchmarks]" for its benchmarks'
        )


if __name__ == "__main__":
    main()
