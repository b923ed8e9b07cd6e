"""Pages: runs, findings and scores as text and HTML. Never reads files of a run, never imports torch."""
