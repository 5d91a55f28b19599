"""`python -m kaito.inference`."""

from kaito.inference.command import main

if __name__ == "__main__":
    main()
