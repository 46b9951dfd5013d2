"""`python -m metaie`."""

from metaie.cli import app

if __name__ == "__main__":
    app(prog_name="python -m metaie")
