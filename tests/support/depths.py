"""Depths of networks for tests."""

from rexnet_export.pipeline.model.architecture import stages_at

SHORT = stages_at(0.2)  # six blocks, among them each kind that a ReXNet has, in a third of the time
