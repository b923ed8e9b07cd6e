"""`python -m auscult` is the command line."""

from auscult.cli import main

if __name__ == "__main__":
    main()
