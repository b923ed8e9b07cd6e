"""Records to disk and back. The layout of the files is published in `docs/file-format.md`."""
