"""The command line's larger commands, a file each; `easyedit_rep.cli` lists them."""
