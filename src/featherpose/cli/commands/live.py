"""``featherpose live``: one camera, stream or video on a page, with everyone's skeletons, and into files."""

from __future__ import annotations

import os
import re
import secrets
import sys
import threading
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

# FFmpeg and OpenCV read these when they load: without them their messages on damaged files would appear beside our
# one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from featherpose.cli.commands.serve import AddressOptions, require_server
from featherpose.cli.compilation import note_compilation
from featherpose.cli.options import ModelOptions
from featherpose.cli.options.effect_options import EffectArguments
from featherpose.cli.options.exercise_option import ExerciseOption, check_exercise
from featherpose.cli.recording import SAVED_SUFFIXES, Recording, save_files
from featherpose.errors import SourceError
from featherpose.media.sources.find import SourceRef, find_sources
from featherpose.server.options import ServeOptions, is_loopback
from featherpose.stream import FrameResult
from featherpose.zoo.resolve import resolve_model

__all__ = ["live"]

_POLL_S = 0.2


def live(
    source: Annotated[
        str, Parameter(help="A camera number (0 is the first), an rtsp or http(s) address, or a video file.")
    ],
    /,
    *,
    save: Annotated[
        list[Path] | None,
        Parameter(
            negative="",
            help=f"Record into this file, by its suffix: {SAVED_SUFFIXES} for poses (.json: COCO results), "
            ".mp4, .webm or .mkv for annotated video. Repeat it for several. A video file is then shown once, not "
            "again and again, and the command ends with it.",
        ),
    ] = None,
    motion: ExerciseOption = None,
    effects: EffectArguments = EffectArguments(),  # noqa: B008 - frozen
    browser: Annotated[bool, Parameter(help="Open the page in this machine's browser, if it has a screen.")] = True,
    address: AddressOptions = AddressOptions(),  # noqa: B008 - frozen
    model: ModelOptions = ModelOptions(),  # noqa: B008
) -> int:
    """Show a camera, stream or video on a page, live, with everyone's skeletons and ids.

    Ctrl-C ends it, with complete files.
    """
    files = save_files(save or [])
    check_exercise(motion)
    require_server()
    ref = _live_source(source)
    name = _page_name(ref)
    token = address.token
    if token is None and not is_loopback(address.host):
        token = secrets.token_urlsafe(18)  # the page is reachable from the network: its address carries the token
    options = ServeOptions(
        model=model.model,
        quality=model.quality,
        refine=model.refine,
        engine=model.engine,
        host=address.host,
        port=address.port,
        token=token,
        certificate=address.certificate,
        key=address.key,
        allowed_hosts=tuple(address.allow_host or ()),
        allowed_origins=tuple(address.allow_origin or ()),
        sources={name: source},
        loop_videos=save is None,
        motion=motion,
        effects=effects.options(),
    )
    from featherpose.server.app import create_app
    from featherpose.server.http.native_messages import own_stderr
    from featherpose.server.run import listen, serve, server_url

    stop = threading.Event()
    recording: Recording | None = None

    def record(result: FrameResult) -> None:
        assert recording is not None
        recording(result)

    with ExitStack() as stack:
        listener = stack.enter_context(listen(options))
        url = f"{server_url(options, listener)}#source={quote(name)}" + ("" if token is None else f"&token={token}")
        note_compilation(resolve_model(options.model).spec.method)
        app = create_app(options, recorders={} if save is None else {name: record})
        stack.callback(app.state.service.close)  # also if a file cannot be written, before anything is served
        watched = app.state.hub.find(name)
        if save is not None:
            recording = stack.enter_context(
                Recording(files, ref, app.state.service.estimator.skeleton, stop, skeletons=effects.scene is None)
            )
            for note in recording.notes:
                print(f"featherpose: {note}", file=sys.stderr)

        def end_with_source() -> None:
            while watched.live and not stop.wait(_POLL_S):
                pass
            stop.set()

        def on_ready() -> None:
            print(f"featherpose: {name} is at {url} (Ctrl-C ends it)", file=sys.stderr)
            # Neither may block the server, in whose thread this runs.
            if browser and _has_screen():
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            if save is not None:
                threading.Thread(target=end_with_source, daemon=True).start()

        with own_stderr():
            serve(app, listener, on_ready=on_ready, stop=stop)
        if recording is not None:
            recording.close()
            _print_summary(recording)
            return 1 if watched.error is not None else 0
    return 0


def _live_source(source: str) -> SourceRef:
    """Open the source once to fail early, and return it.

    Raises:
        SourceError: If it cannot be opened, or is not one source that moves.
    """
    refs = find_sources(source)
    if len(refs) > 1 or refs[0].is_images:
        raise SourceError(
            f"{source} is no live source", expected="a camera number, an address or one video file",
            hint="featherpose predict takes images and folders",
        )  # fmt: skip
    with refs[0].open() as opened:
        if opened.kind == "image":
            raise SourceError(f"{source} is an image", hint="featherpose predict takes images")
    return refs[0]


def _page_name(ref: SourceRef) -> str:
    """Return a name for the page's address, without user and password of a camera's address.

    Example:
        >>> _page_name(SourceRef("x", url="rtsp://me:secret@camera.local:554/stream1"))
        'camera.local-stream1'
        >>> _page_name(SourceRef("two people.mp4", (Path("two people.mp4"),)))
        'two-people.mp4'
    """
    name = ref.name if ref.url is None else re.sub(r"^\w[\w+.-]*://(?:[^/@]*@)?|[?#].*$|:\d+(?=/|$)", "", ref.url)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64] or "source"


def _has_screen() -> bool:
    """Return whether a graphical browser can open here; text browsers in a terminal cannot show the page."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _print_summary(recording: Recording) -> None:
    late = f"; {recording.dropped:,} came too late and are in no file" if recording.dropped else ""
    print(f"featherpose: {recording.frames:,} frames, {recording.poses:,} poses{late}", file=sys.stderr)
    for name in recording.written:
        print(f"featherpose: wrote {name}", file=sys.stderr)
