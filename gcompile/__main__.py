"""`python -m gcompile` is the command `gcompile`."""

from gcompile.cli import main

if __name__ == "__main__":
    main()
