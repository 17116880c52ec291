"""D4S: sequences of edits, exact and removable (Dump for Sequence, NeurIPS 2024)."""
