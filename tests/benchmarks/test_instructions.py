"""The guard that counts instructions: what grew too much, and what nobody counted before, fails."""

import instructions
import pytest


@pytest.mark.parametrize(
    ("counted", "code", "said"),
    [
        (1_000, 0, "+0.0 %"),
        (1_030, 0, "+3.0 %"),
        (1_031, 1, "+3.1 % TOO MUCH"),
        (500, 0, "-50.0 %"),
    ],
)
def test_growth_has_a_limit(counted: int, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert instructions.compared({"a": counted}, {"a": 1_000, "gone": 1}, 3.0) == code
    assert capsys.readouterr().out.endswith(f"{counted:,}  {said}\n")


def test_what_is_new_is_not_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert instructions.compared({"b": 7}, {"a": 1_000}, 3.0) == 1
    assert "is new: --write keeps it" in capsys.readouterr().out
