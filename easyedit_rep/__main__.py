"""`python -m easyedit_rep`: the command line."""

from .cli import main

main()
