"""Labels that are given to a network that states its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_export import small_checkpoint

from rexnet_export.pipeline.core.errors import DataError
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.export.inputs import Inputs, gather
from rexnet_export.pipeline.export.options import Options

OWN = bundled("evaluation").class_names or ()


def gathered(tmp_path: Path, names: tuple[str, ...]) -> Inputs:
    """What an export of a network with the bundled labels works on where these are given."""
    labels = tmp_path / "names.txt"
    labels.write_text("\n".join(names))
    return gather(
        Options(checkpoint=str(small_checkpoint(tmp_path / "a.safetensors")), precision="fp32", labels=labels)
    )


def test_the_checkpoints_own_labels_need_no_notice(tmp_path: Path) -> None:
    assert gathered(tmp_path, OWN).notices == ()


@pytest.mark.parametrize("spelled", [str, str.upper])
def test_its_labels_in_another_order_are_refused(tmp_path: Path, spelled: type[str]) -> None:
    swapped = tuple(map(spelled, (OWN[0], OWN[2], OWN[1], *OWN[3:])))
    found = rf"another order: class 1 is 'Trouser' there and '{swapped[1]}' in the file; leave --labels out"
    with pytest.raises(DataError, match=found):
        gathered(tmp_path, swapped)


def test_other_names_are_taken_and_said(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, (OWN[0], "Hose", *OWN[2:]))
    assert inputs.card.labels[1] == "Hose"
    expected = "labels of names.txt replace those of the checkpoint, 1 of 10: class 1 is 'Hose', not 'Trouser'"
    assert expected in inputs.notices
