"""`python -m fcnseg` is the `fcnseg` command."""

from fcnseg.cli import main

main()
