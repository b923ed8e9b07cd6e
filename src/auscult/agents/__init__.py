"""What a coding agent may ask of runs at rest: read-only, and nothing outside one directory."""
