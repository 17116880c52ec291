"""What takes how long, here and elsewhere: one file a case, `python -m benchmarks.run` for all of them. See README.md beside this file."""
