"""The one kind of failure that is the user's to mend."""


class UserError(Exception):
    """A user's mistake: one line that names the file, the field, what was found and what is expected."""
