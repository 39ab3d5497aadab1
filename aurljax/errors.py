"""What a user did that cannot work: one sentence, naming the path or field and what to do."""


class UserError(Exception):
    """Bad input. The command line prints the sentence and exits with status 2."""
