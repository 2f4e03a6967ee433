"""``python -m sizeforensics`` is the command line."""

from sizeforensics.cli import main

if __name__ == "__main__":
    main()
