"""`result.json` of one run of a bundle on a device (`device_result.schema.json`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Count, Fraction, Precision

P90_SAMPLES, P99_SAMPLES = 64, 662  # with fewer, no percentile has a bound

type Timestamp = Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
type Reason = Literal[
    "throttled",
    "too_hot",
    "load_high",
    "clock_changed",
    "min_duration",
    "min_queries",
    "not_delegated",
    "hash_mismatch",
    "emulated_timing",
    "page_hidden",
    "unwatched",
]


class Tool(JsonRecord):
    """What made the bundle."""

    name: str
    version: str
    git_commit: str | None
    git_dirty: bool | None


class RunBundle(JsonRecord):
    """What was run."""

    bundle_id: Sha256
    model_sha256: Sha256
    model_size_bytes: Count
    target: Literal["tflite", "onnxruntime", "coreml", "torch-cuda"]
    precision: Precision
    opset: int | None
    quant_scheme: str | None


class CpuPart(JsonRecord):
    """Processors that are alike."""

    implementer: str | None
    part: str | None
    variant: str | None
    count: AtLeastOne
    max_freq_khz: int | None


class Device(JsonRecord):
    """What it ran on; the fingerprint is a digest over its inputs."""

    fingerprint: Sha256
    fingerprint_inputs: dict[str, Any]
    kind: Literal["android", "linux", "ios", "macos", "windows", "emulated"]
    manufacturer: str | None
    model: str | None
    soc: str | None
    board: str | None
    os_version: str | None
    build_id: str | None
    kernel: str | None
    arch: str
    cpu_parts: tuple[CpuPart, ...]
    isa_flags: tuple[str, ...]
    ram_bytes: int | None
    serial_hash: str | None
    emulator: str | None


class Runtime(JsonRecord):
    """What ran it, and how."""

    name: str
    version: str
    wheel_sha256: str | None
    delegate_or_ep: str | None
    delegated_nodes: int | None
    total_nodes: int | None
    fully_delegated: bool | None
    threads: AtLeastOne
    affinity_mask: str | None
    process_kind: Literal["shell", "foreground_app", "ssh", "browser"]
    options: dict[str, Any]


class Control(JsonRecord):
    """A setting of the device that was asked for, and whether it was put back."""

    name: str
    asked: Any
    applied: bool
    restored: bool | None
    error: str | None


class State(JsonRecord):
    """The device's state at one moment."""

    temps_c: tuple[float, ...]
    thermal_status: int | None
    battery_pct: int | None
    battery_temp_c: float | None
    charging: bool | None
    loadavg_1m: float | None
    cpu_freq_khz: tuple[int, ...]
    governor: tuple[str, ...]
    time_in_state: dict[str, Any]
    mem_available_bytes: int | None
    throttle_events: int | None
    voluntary_ctxt_switches: int | None
    nonvoluntary_ctxt_switches: int | None


class Changes(JsonRecord):
    """What went up between two states."""

    time_in_state_delta: dict[str, Any]
    mem_available_bytes: int | None
    throttle_events: int | None
    voluntary_ctxt_switches: int | None
    nonvoluntary_ctxt_switches: int | None


class Surroundings(JsonRecord):
    """The device before and after; the reference kernel is the same loop, timed at both ends."""

    before: State
    after: State
    delta: Changes
    reference_kernel_ns_before: int | None
    reference_kernel_ns_after: int | None


class Load(JsonRecord):
    """Opening the file: the first time, again, and the first inference."""

    cold_ns: Count
    warm_ns: tuple[Count, ...]
    first_inference_ns: Count


class Warmup(JsonRecord):
    """Inferences that do not count."""

    runs: Count
    seconds: float


class Block(JsonRecord):
    """Inferences of one file in a row."""

    pair: Count
    arm: Literal["base", "cand"]
    order: Count
    n: AtLeastOne
    median_ns: Count
    p90_ns: Count
    mean_ns: Count
    temp_c: float | None
    t_start_s: float


class Bound(JsonRecord):
    """What a percentile is at most, with confidence."""

    value_ns: Count
    confidence: Fraction
    n: Count
    t: Count


def _null_below(samples: int, *keys: str) -> JsonDict:
    """JSON Schema: with fewer samples these are null."""
    nulls: JsonDict = {key: {"type": "null"} for key in keys}
    return {"if": {"properties": {"n": {"maximum": samples - 1}}}, "then": {"properties": nulls}}


class Latency(JsonRecord):
    """Durations of single inferences."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [_null_below(P90_SAMPLES, "p90_ns", "p90_bound"), _null_below(P99_SAMPLES, "p99_ns")]
        }
    )

    clock: Literal["CLOCK_MONOTONIC_RAW", "perf_counter_ns", "performance.now", "mach_absolute_time"]
    batch: Count
    scope: Literal["invoke_only", "pre+invoke+post"]
    warmup: Warmup
    blocks: tuple[Block, ...]
    raw_file: str
    n: AtLeastOne
    min_ns: Count
    p50_ns: AtLeastOne
    p90_ns: int | None
    p99_ns: int | None
    mean_ns: Count
    std_ns: Count
    mad_ns: Count
    cv: float
    lag1_autocorr: float | None
    p90_bound: Bound | None

    @model_validator(mode="after")
    def _enough(self) -> Self:
        p90, p99 = self.p90_ns is not None or self.p90_bound is not None, self.p99_ns is not None
        if (self.n < P90_SAMPLES and p90) or (self.n < P99_SAMPLES and p99):
            raise ValueError(f"has percentiles that its {self.n} samples do not show")
        return self


class Paired(JsonRecord):
    """How many times as long the candidate takes, over pairs of blocks."""

    ratio_median: float | None
    ci_low: float | None
    ci_high: float | None
    confidence: float | None
    pairs: Count
    method: str | None
    seed: int


class Memory(JsonRecord):
    """Memory of the process."""

    peak_rss_bytes: int | None
    delta_init_bytes: int | None
    delta_run_bytes: int | None
    method: str


class Parity(JsonRecord):
    """The logits beside those of the desktop."""

    max_abs: float | None
    mean_abs: float | None
    max_quant_steps: float | None
    cosine_min: float | None
    top1_agreement: Fraction
    n: AtLeastOne
    verdict: Literal["pass", "fail"]


class Accuracy(JsonRecord):
    """Right answers on the images of the bundle."""

    n: AtLeastOne
    top1: Fraction
    top5: Fraction
    predictions_sha256: Sha256
    per_image_file: str
    dataset_id: str
    dataset_sha256: Sha256


class Valid(JsonRecord):
    """The durations count."""

    valid: Literal[True]
    reasons: tuple[()]


class Invalid(JsonRecord):
    """They do not, for each of these reasons."""

    valid: Literal[False]
    reasons: Annotated[tuple[Reason, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True})]

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.reasons)) < len(self.reasons):
            raise ValueError("names a reason twice")
        return self


EMULATED: JsonDict = {
    "if": {"properties": {"device": {"properties": {"kind": {"const": "emulated"}}}}},
    "then": {"properties": {"validity": {"properties": {"reasons": {"contains": {"const": "emulated_timing"}}}}}},
}


class DeviceResult(JsonRecord):
    """Durations are integer nanoseconds, sizes bytes, temperatures degrees Celsius.

    A null has its reason in not_measured, keyed by dotted path.
    """

    model_config = ConfigDict(
        title="result.json of one run of a bundle on a device", json_schema_extra={"allOf": [EMULATED]}
    )

    schema_version: Literal[1]
    run_id: Annotated[str, Field(pattern="^[0-9a-f-]{36}$")]
    started_at: Timestamp
    ended_at: Timestamp
    tool: Tool
    bundle: RunBundle
    device: Device
    runtime: Runtime
    controls: tuple[Control, ...]
    environment: Surroundings
    load: Load
    latency: Latency
    paired: Paired
    memory: Memory
    parity: Parity
    accuracy: Accuracy
    validity: Valid | Invalid
    not_measured: dict[str, str]

    @model_validator(mode="after")
    def _emulated_time_is_none(self) -> Self:
        if self.device.kind == "emulated" and "emulated_timing" not in self.validity.reasons:
            raise ValueError("is of an emulated device and lacks the reason emulated_timing")
        return self
