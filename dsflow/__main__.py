"""`python -m dsflow`."""

from dsflow.cli import main

if __name__ == "__main__":
    main()
