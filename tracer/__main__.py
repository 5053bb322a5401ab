"""``python -m tracer`` is ``trace-generate``."""

from tracer.cli.main import main

if __name__ == "__main__":
    main()
