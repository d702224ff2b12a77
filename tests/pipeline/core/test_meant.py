"""Words that nobody knows get the nearest that is known, lists what is missing in them."""

import pytest

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.meant import did_you_mean, listed, one_of

KNOWN = ("torch-fp32", "onnx-int8")


@pytest.mark.parametrize(
    ("word", "said"),
    [("torch-fp23", "did you mean torch-fp32?"), ("ONNX-INT8", "did you mean onnx-int8?"), ("zzz", ""), ("", "")],
)
def test_the_nearest_word_is_meant(word: str, said: str) -> None:
    assert did_you_mean(word, KNOWN) == said
    assert one_of(word, KNOWN) == "; ".join(filter(None, ("choose one of torch-fp32, onnx-int8", said)))


@pytest.mark.parametrize(
    ("text", "words"),
    [("onnx-int8", ("onnx-int8",)), (" a , torch-fp32", ("a", "torch-fp32")), ("two words", ("two words",))],
)
def test_a_list_is_its_words(text: str, words: tuple[str, ...]) -> None:
    assert listed(text, "--forms", KNOWN, "a,b") == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--forms '': an entry is missing; write entries with a comma between them: a,b"),
        (" , ,", "--forms ' , ,': an entry is missing; write entries with a comma between them: a,b"),
        ("a,", "--forms 'a,': an entry is missing; did you mean a?"),
        ("torch-fp32;Onnx-int8", "--forms 'torch-fp32;Onnx-int8': did you mean torch-fp32,Onnx-int8?"),
    ],
)
def test_a_list_that_lacks_something_says_what(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        listed(text, "--forms", KNOWN, "a,b")
    assert str(refused.value) == said
