"""`python -m gcompile` is `gcompile`."""

from gcompile.cli.main import main

if __name__ == "__main__":
    main()
