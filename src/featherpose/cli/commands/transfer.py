"""``featherpose transfer``: one person's movement on another's picture, or drawn by a network trained on a video."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from cyclopts import App, Parameter

# FFmpeg and OpenCV read these when they load: their own remarks on damaged files would stand beside our one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from featherpose.cli.options import ModelOptions
from featherpose.cli.options.pose_file_options import PoseFileOptions
from featherpose.cli.options.predict_options import SourceOptions
from featherpose.cli.pose_reading import find_video, read_video_poses
from featherpose.errors import MissingExtraError, OptionError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.files import check_writable
from featherpose.media.images import read_image, write_image
from featherpose.motion.cleaning.filters import FilterOptions, filter_sequence
from featherpose.motion.cleaning.gaps import drop_doubtful, fill_gaps
from featherpose.motion.cleaning.hampel import reject_outliers
from featherpose.motion.cleaning.swaps import repair_swaps
from featherpose.motion.files.bvh import write_bvh
from featherpose.motion.files.reading import holds_poses, read_poses
from featherpose.motion.sequence import PoseSequence
from featherpose.output_names import OutputNames
from featherpose.transfer.character import load_character, read_mask
from featherpose.transfer.puppet import Puppet
from featherpose.transfer.rendering import puppet_frames, retarget_people, write_frames, write_transparent
from featherpose.zoo.resolve import resolve_model

__all__ = ["transfer"]

transfer = App(
    name="transfer",
    help="Move a person in a picture, or a drawn character, as somebody in a video moves.",
    help_format="plaintext",
)


@transfer.default
def render(
    source: Annotated[
        str,
        Parameter(help="The movement: a video, or poses in any file that `featherpose motion` takes."),
    ],
    /,
    *,
    to: Annotated[
        Path | None, Parameter(help="Who is to move: a picture of one person, or a character file (.toml).")
    ] = None,
    trained: Annotated[
        Path | None,
        Parameter(
            name="--model-run", help="Or a folder that `featherpose transfer train` wrote; --model takes it too."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="Video (.mp4, .webm, .mkv) with the source's sound; SOURCE.transfer.mp4 if left out.",
        ),
    ] = None,
    alpha: Annotated[
        Path | None,
        Parameter(
            help="The person alone with transparency: a folder for PNG files, or a .webm (with the video extra)."
        ),
    ] = None,
    bvh: Annotated[Path | None, Parameter(help="The retargeted movement for Blender (.bvh).")] = None,
    preview: Annotated[Path | None, Parameter(help="Picture of the mesh and joints, to see what was cut out.")] = None,
    mask: Annotated[
        Path | None, Parameter(help="Mask of the person (white, or alpha); cut out by the skeleton if left out.")
    ] = None,
    background: Annotated[Path | None, Parameter(help="Another background, of the picture's size.")] = None,
    people: Annotated[int, Parameter(help="How many people of the source move a copy each.")] = 1,
    mark: Annotated[bool, Parameter(help="Write into each picture that it is synthetic.")] = True,
    poses: PoseFileOptions = PoseFileOptions(),  # noqa: B008 - frozen
    part: SourceOptions = SourceOptions(),  # noqa: B008
    model: ModelOptions = ModelOptions(),  # noqa: B008
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="No progress, no summary.")] = False,
) -> int:
    """Move a person in a picture, or a drawn character, as somebody in a video moves.

    Use pictures of people who agreed to it.
    """
    if to is None and trained is None and _is_run(model.model_name):
        # What --model names elsewhere finds poses; a folder of a run can only mean the generator.
        trained, model = Path(str(model.model_name)), replace(model, model_name=None)
    if (to is None) == (trained is None):
        raise OptionError("whom to move is not clear", expected="--to PICTURE or --model-run FOLDER")
    if people < 1:
        raise OptionError(f"--people {people}", expected="1 or more")
    target = output if output is not None else Path(f"{Path(source).stem}.transfer.mp4")
    taken = OutputNames([Path(source), *([to] if to is not None else [])])
    for path in (target, alpha, bvh, preview):
        if path is not None and taken.is_taken(path):
            raise OptionError(f"{path} would be overwritten", hint="choose another name")
        if path is not None:
            check_writable(path / "frame.png" if path == alpha and path.is_dir() else path)
    if trained is not None:
        if any(given is not None for given in (alpha, bvh, preview, mask, background)):
            raise OptionError("--alpha, --bvh, --preview, --mask and --background", expected="--to as well")
        return _render_trained(source, trained, target, mark, poses, part, model, quiet)
    assert to is not None
    puppet = _puppet(to, mask, background, model)
    written = []
    if preview is not None:
        write_image(preview, puppet.preview())
        written.append(str(preview))
    sequence, audio = _movement(source, poses, part, model, quiet)
    movements = retarget_people(sequence, puppet.body, people)
    if bvh is not None:
        write_bvh(bvh, movements[0])
        written.append(str(bvh))
    began = perf_counter()
    if alpha is None or output is not None:
        frames = puppet_frames(puppet, movements)
        written.append(write_frames(target, frames, puppet.background, movements[0], audio_from=audio, mark=mark))
    if alpha is not None:
        size = (puppet.image.shape[1], puppet.image.shape[0])
        written.append(write_transparent(alpha, puppet_frames(puppet, movements), size, movements[0], mark=mark))
    if not quiet:
        rate = sequence.num_frames / max(perf_counter() - began, 1e-9)
        print(f"featherpose: {sequence.num_frames:,} frames, drawn and written at {rate:.0f} a second", file=sys.stderr)
        for name in written:
            print(f"featherpose: wrote {name}", file=sys.stderr)
    return 0


def _is_run(name: str | None) -> bool:
    return name is not None and (Path(name) / "generator.pt").is_file()


def _puppet(to: Path, mask: Path | None, background: Path | None, model: ModelOptions) -> Puppet:
    if to.suffix.lower() == ".toml":
        if mask is not None or background is not None:
            raise OptionError("--mask and --background", expected="mask and background in the character file")
        return load_character(to)
    image = read_image(to)
    with PoseEstimator(
        resolve_model(model.model), quality=model.quality, refine=model.refine, engine=model.engine
    ) as estimator:
        poses = estimator(image)
    if not len(poses):
        raise SourceError(f"there is no person in {to}", hint="choose a picture that shows a whole person")
    puppet = Puppet.from_image(image, poses, mask=None if mask is None else read_mask(mask))
    if background is not None:
        behind = read_image(background)
        if behind.shape != image.shape:
            raise OptionError(
                f"{background} has {behind.shape[1]}x{behind.shape[0]} pixels",
                expected=f"the picture's {image.shape[1]}x{image.shape[0]}",
            )
        puppet.background = behind
    return puppet


def _movement(
    source: str, poses: PoseFileOptions, part: SourceOptions, model: ModelOptions, quiet: bool
) -> tuple[PoseSequence, Path | None]:
    """Return the calmed movement, and the file with its sound."""
    if holds_poses(source):
        return _calm(read_poses(source, source=poses.source, fps=poses.fps)), None
    poses.refuse_for(source)
    ref = find_video(source)
    return _calm(read_video_poses(ref, part, model, quiet=quiet)), ref.paths[0] if ref.paths else None


def _calm(sequence: PoseSequence) -> PoseSequence:
    sequence = reject_outliers(repair_swaps(drop_doubtful(sequence, 0.1)))
    return filter_sequence(fill_gaps(sequence, 0.5, "linear"), FilterOptions(name="gaussian", width_s=0.04))


def _render_trained(
    source: str, folder: Path, target: Path, mark: bool, poses: PoseFileOptions, part: SourceOptions,
    model: ModelOptions, quiet: bool,
) -> int:  # fmt: skip
    _require_torch()
    from featherpose.transfer.generator_drawing import load_artist
    from featherpose.transfer.judging import body_of_footage

    artist = load_artist(folder)
    sequence, audio = _movement(source, poses, part, model, quiet)
    (movement,) = retarget_people(sequence, body_of_footage(artist.footage), 1)
    skeleton = artist.footage.skeleton
    if movement.skeleton.keypoints != skeleton.keypoints:
        raise SourceError(
            f"the source has the skeleton {movement.skeleton.name}, the model {skeleton.name}",
            hint="use the model that found the poses of the training video",
        )
    opaque = (np.dstack((image, np.full(image.shape[:2], 255, np.uint8)))
              for image in artist.draw_all(movement.keypoints[:, 0]))  # fmt: skip
    written = write_frames(target, opaque, artist.footage.plate, movement, audio_from=audio, mark=mark)
    if not quiet:
        print(f"featherpose: wrote {written}", file=sys.stderr)
    return 0


@transfer.command
def train(
    video: Annotated[str, Parameter(help="A video of the person, of a camera that stands still.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder of the run; the same command again goes on with it.")],
    size: Annotated[int, Parameter(help="Height of the pictures that are learned, pixels.")] = 192,
    minutes: Annotated[float, Parameter(help="Time to train.")] = 25.0,
    steps: Annotated[int, Parameter(help="Steps to train at most.")] = 1_500,
    batch: Annotated[int, Parameter(help="Pairs of frames a step.")] = 4,
    hold_out: Annotated[
        float, Parameter(help="Leave out this last share of the video and judge the result by it; 0 trains on all.")
    ] = 0.2,
    person: Annotated[str, Parameter(help="longest, largest, central or an id.")] = "longest",
    part: SourceOptions = SourceOptions(),  # noqa: B008 - frozen
    model: ModelOptions = ModelOptions(),  # noqa: B008
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="No progress, no summary.")] = False,
) -> int:
    """Train a small network that draws the person of a video in other poses.

    Use videos of people who agreed to it.
    """
    if not 64 <= size <= 1024 or not 0 <= hold_out <= 0.5:
        raise OptionError(f"--size {size} and --hold-out {hold_out:g}", expected="64 to 1024, and 0 to 0.5")
    _require_torch()
    from featherpose.transfer.footage import Footage, clean_person, shrink
    from featherpose.transfer.generator_drawing import load_artist
    from featherpose.transfer.generator_training import TrainOptions, train_generator
    from featherpose.transfer.judging import judge_generator

    options = TrainOptions(minutes=minutes, steps=steps, batch=batch)
    images: list[np.ndarray] = []
    sequence = read_video_poses(
        find_video(video), part, model, quiet=quiet, look=lambda result: images.append(shrink(result.frame.image, size))
    )
    one = clean_person(sequence, person)
    scale = size / sequence.image_size[1]
    one = one.changed((one.keypoints + 0.5) * scale - 0.5, one.steps[-1])
    footage = Footage.collect(images, one, size)
    training, rest = footage.split(1 - hold_out) if hold_out > 0 else (footage, None)

    def say(text: str) -> None:
        if not quiet:
            print(f"featherpose: {text}", file=sys.stderr)

    say(f"{len(training.frames)} frames to learn from, {training.window.width}x{training.window.height} pixels each")
    path = train_generator(training, out, options, say=say)
    if rest is not None:
        likeness, sheets = judge_generator(load_artist(out), rest)
        write_image(out / "held-out.png", np.hstack(list(sheets)))
        _write_likeness(out / "held-out.json", likeness)
        for one_ in likeness:
            say(f"{one_.name}: PSNR {one_.psnr_db:.2f} dB, SSIM {one_.ssim:.4f} on {one_.frames} frames not seen")
    say(f"wrote {path}; draw with: featherpose transfer SOURCE --model-run {out}")
    return 0


def _write_likeness(path: Path, likeness: list[Any]) -> None:
    from dataclasses import asdict

    from featherpose.cli.report import write_json

    write_json(path, {"inside the person's box": [asdict(one) for one in likeness]})


def _require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MissingExtraError("a trained generator", "train")
