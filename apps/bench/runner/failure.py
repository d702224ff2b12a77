"""The runner's own failures: one line each, with the exit code the project gives its kind."""

INVALID, USAGE, DEVICE, DAMAGED, NO_RUNTIME, UNEXPECTED = 4, 2, 5, 11, 13, 70


class RunnerError(Exception):
    """What happened, which value, what to do next; `exit_code` is what the runner returns."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
