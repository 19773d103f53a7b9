"""Schemas of requests and answers, for the OpenAPI description and for checking WebSocket messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BatchAnswer",
    "ErrorAnswer",
    "ErrorRecord",
    "ModelRecord",
    "PersonRecord",
    "PosesAnswer",
    "SessionMessage",
    "SkeletonRecord",
    "SourceRecord",
    "StateAnswer",
]

Score = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]

_PERSON_EXAMPLE: dict[str, Any] = {
    "id": 3,  # not None: the description is written without null values
    "score": 1.87,
    "box": [211.5, 60.2, 96.1, 240.8],
    "keypoints": [[258.1, 74.9, 0.91], None, [226.4, 120.3, 0.85]],
}
_TIMES_EXAMPLE: dict[str, Any] = {
    "queue": 0.4,
    "read": 3.1,
    "prepare": 0.4,
    "infer": 18.7,
    "decode": 0.5,
    "refine": 6.2,
}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorRecord(_Record):
    """Parts of an error."""

    what: str = Field(description="What was given and what is wrong with it.")
    expected: str | None = Field(default=None, description="What would have been right.")
    hint: str | None = Field(default=None, description="What to do now.")


class ErrorAnswer(_Record):
    """Body of every answer with an error status."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "what": "the body is not an image that the server reads",
                        "expected": "JPEG, PNG, WebP, GIF, BMP",
                        "hint": None,
                    }
                }
            ]
        }
    )
    error: ErrorRecord


class SkeletonRecord(_Record):
    """Keypoints and limbs of the model."""

    name: str
    keypoints: list[str] = Field(description="Names in the order of every person's keypoints.")
    limbs: list[tuple[int, int]] = Field(description="Pairs of keypoints to draw a line between.")


class PersonRecord(_Record):
    """One person."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PERSON_EXAMPLE]})
    id: int | None = Field(description="Id that lasts through a session; null without one or while unconfirmed.")
    score: float = Field(description="0 to about 4, higher is more certain; comparable within one model.")
    box: tuple[float, float, float, float] = Field(
        description="Box [x, y, width, height] of the keypoints found, in pixels of the image."
    )
    keypoints: list[tuple[float, float, float] | None] = Field(
        description="[x, y, score] in the skeleton's order, pixel centers at integers; null where missing."
    )


class PosesAnswer(_Record):
    """All people of one image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "feather",
                    "budget_crops": 10,
                    "skeleton": "openpose_18",
                    "size": [640, 480],
                    "people": [_PERSON_EXAMPLE],
                    "times_ms": _TIMES_EXAMPLE,
                }
            ]
        }
    )
    model: str
    budget_crops: int | None = Field(description="Most people an image who are refined; null for all, 0 for nobody.")
    skeleton: str
    size: tuple[int, int] = Field(description="[width, height] of the image in pixels.")
    people: list[PersonRecord]
    times_ms: dict[str, float] = Field(
        description="Milliseconds of waiting (queue), decompressing (read), resizing (prepare), network (infer), "
        "decoding (decode) and single people (refine)."
    )


class BatchAnswer(_Record):
    """All people of several images, or the error of an unreadable one, in the order of the files."""

    results: list[PosesAnswer | ErrorAnswer]


class ModelRecord(_Record):
    """A loaded model."""

    name: str
    title: str
    loaded: bool
    height: int = Field(description="Network input height in pixels.")
    precision: str
    engine: str
    device: str
    license: str
    limits: list[str] = Field(description="What the model is known not to do.")
    metrics: list[dict[str, Any]] = Field(description="Measured and published figures of its card.")
    skeleton: SkeletonRecord


class SourceRecord(_Record):
    """A configured source."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "door", "kind": "camera", "live": True}]})
    name: str
    kind: Literal["camera", "stream", "video"]
    live: bool = Field(description="Whether it runs at this moment; it starts with its first viewer.")


class StateAnswer(_Record):
    """Whether the server is alive, or ready."""

    state: Literal["ok", "ready"]


class SessionMessage(_Record):
    """Settings that a client may send in a live session."""

    type: Literal["options", "reset"]
    min_keypoint_score: Score | None = None
    min_person_score: Score | None = None
    smoothing: bool | None = None
