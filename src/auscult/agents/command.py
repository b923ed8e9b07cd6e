"""Command: `auscult mcp` and `diagnose --schema`, what programs call, as the command line parses them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from auscult.pages.diagnosis import diagnosis_schema


def serve_agents(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Runs below it can be read, nothing else.")],
) -> None:
    """Let a coding agent ask about the runs below a directory: a read-only MCP server on standard input and output.

    Tools: list_runs, verdict, findings, series, compare. Needs the extra `mcp`: pip install 'auscult[mcp]'.
    """
    from auscult.agents.server import serve

    serve(directory)


def print_schema(wanted: bool) -> None:
    """Print the JSON Schema of `diagnose --json` and end."""
    if wanted:
        sys.stdout.write(diagnosis_schema())
        raise typer.Exit
