"""Compute plans of coremltools' own classes: which unit runs which operation of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

from coremltools.models import compute_device, compute_plan
from coremltools.models.compute_plan import MLModelStructureProgramBlock as Block
from coremltools.models.compute_plan import MLModelStructureProgramOperation as Operation

UNITS = {
    "neural engine": compute_device.MLNeuralEngineComputeDevice,
    "gpu": compute_device.MLGPUComputeDevice,
    "cpu": compute_device.MLCPUComputeDevice,
}


def operation(name: str, *inner: Block) -> Operation:
    """An operation that gives `name`; `inner` are the blocks of a condition or a loop."""
    output = compute_plan.MLModelStructureProgramNamedValueType(name, compute_plan.MLModelStructureProgramValueType())
    return Operation({}, "op", [output], list(inner), None)


def block(operations: Sequence[Operation]) -> Block:
    """Operations one after the other."""
    return Block([], list(operations), [])


def structure(operations: Sequence[Operation]) -> compute_plan.MLModelStructure:
    """A program whose `main` has these operations."""
    main = compute_plan.MLModelStructureProgramFunction([], block(operations))
    program = compute_plan.MLModelStructureProgram({"main": main})
    return compute_plan.MLModelStructure(neuralnetwork=None, program=program, pipeline=None)


def plan(operations: Sequence[Operation], where: Mapping[str, str]) -> SimpleNamespace:
    """A plan that runs an operation in the unit its output's name has in `where`; others run nowhere.

    Core ML makes such a plan, and the classes of the units want its own objects, so these are made without.
    """

    def usage(asked: Operation) -> compute_plan.MLComputePlanDeviceUsage | None:
        unit = where.get(asked.outputs[0].name)
        if unit is None:
            return None
        device = object.__new__(UNITS[unit])
        return compute_plan.MLComputePlanDeviceUsage(device, [device])

    return SimpleNamespace(
        model_structure=structure(operations), get_compute_device_usage_for_mlprogram_operation=usage
    )
