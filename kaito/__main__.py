"""`python -m kaito`: the same as `kaito`."""

from kaito.cli.main import main

if __name__ == "__main__":
    main()
