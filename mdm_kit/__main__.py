"""`python -m mdm_kit` is `mdm-kit`."""

from mdm_kit.cli.main import run

if __name__ == "__main__":
    run()
