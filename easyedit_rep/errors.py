"""The one exception a user sees: it names the offending value and the next step, in one line."""


class EditError(ValueError):
    """Bad input, refused before anything was changed. The message is one line and says what to do next."""
