"""What the browser page sends (`upload.schema.json`): measurements, of which the server makes a result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from rexnet_export.apps.bench.result.record import Timestamp
from rexnet_export.pipeline.core.json_record import JsonRecord

LONGEST_NS = 10**13

type Short = Annotated[str, Field(max_length=300)]
type Nanoseconds = Annotated[int, Field(ge=0, le=LONGEST_NS)]
type Duration = Annotated[int, Field(ge=1, le=LONGEST_NS)]


class UploadRuntime(JsonRecord):
    """What ran the file in the page."""

    name: Literal["litert.js", "onnxruntime-web"]
    backend: Literal["wasm", "webgpu"]
    threads: Annotated[int, Field(ge=1, le=64)]
    isolated: bool
    gpu: Short | None


class UploadDevice(JsonRecord):
    """What the browser says of the device."""

    user_agent: Short
    platform: Short | None
    platform_version: Short | None
    model: Short | None
    architecture: Short | None
    cores: Annotated[int, Field(ge=1, le=4096)] | None
    memory_gib: Annotated[float, Field(ge=0, le=65536)] | None


class Battery(JsonRecord):
    """The battery, where the browser may see it."""

    percent: Annotated[int, Field(ge=0, le=100)] | None
    charging: bool | None


class UploadLoad(JsonRecord):
    """Opening the file: the first time, again, and the first inference."""

    cold_ns: Nanoseconds
    warm_ns: Annotated[tuple[Nanoseconds, ...], Field(max_length=16)]
    first_inference_ns: Nanoseconds


class UploadBlock(JsonRecord):
    """Inferences of one file in a row."""

    arm: Literal["base", "cand"]
    started_s: Annotated[float, Field(ge=0, le=1_000_000)]
    durations_ns: Annotated[tuple[Duration, ...], Field(min_length=1, max_length=100_000)]


class UploadPair(JsonRecord):
    """Blocks side by side, and the reference kernel around them."""

    kernel: tuple[Duration, Duration]
    blocks: Annotated[tuple[UploadBlock, ...], Field(min_length=1, max_length=2)]


class Upload(JsonRecord):
    """All that one run in a page measured."""

    model_config = ConfigDict(title="What the browser page sends: measurements, of which the server makes a result")

    artifact: Annotated[str, Field(max_length=200)]
    runtime: UploadRuntime
    device: UploadDevice
    battery: tuple[Battery, Battery]
    started_at: Timestamp
    hidden: bool
    """Whether the page was in the background at any time."""
    load: UploadLoad
    warmup_s: Annotated[float, Field(ge=0, le=100_000)]
    kernel: tuple[Duration, Duration]
    """The reference kernel before and after everything."""
    pairs: Annotated[tuple[UploadPair, ...], Field(min_length=1, max_length=10_000)]
    logits: Annotated[str, Field(max_length=2**26, pattern="^[A-Za-z0-9+/]+={0,2}$")]
    """Base64 of little-endian float32 [images, classes]."""
