"""Edits as files: a directory like a PEFT adapter's that knows which weights it belongs to. Save, load, undo, merge, export."""
