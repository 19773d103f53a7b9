"""``predict`` on a folder of 1,000 mixed files: it must end, name what could not be read, and have everything else.

    python benchmarks/mixed_folder.py [--files 1000] [--keep FOLDER]

The folder is made of the development data in ``../shared``: photographs as they are and in twenty formats, short videos
of ten containers, names that file systems allow, damaged and mislabeled files, and what computers leave in folders.
Every file says by its first word what must happen: ``good`` has frames, ``bad`` is reported, ``half`` is both, ``odd``
is passed over.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from reports import publish

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def photographs() -> Iterator[Path]:
    """Yield real photographs without end."""
    folders = [SHARED / "data" / name / "images" for name in ("coco-val", "coco-train")]
    every = sorted(path for folder in folders for path in folder.glob("*.jpg"))
    while True:
        yield from every


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _oriented(image: Image.Image, number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return _saved(image, "JPEG", exif=exif)


def _dark(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 4)  # 12 bits in 16


FORMATS: list[tuple[str, Callable[[Image.Image], bytes]]] = [
    ("png", lambda i: _saved(i, "PNG")),
    ("png", lambda i: _saved(i.convert("RGBA"), "PNG")),
    ("png", lambda i: _saved(i.convert("P"), "PNG")),
    ("png", lambda i: _saved(i.convert("L"), "PNG")),
    ("png", lambda i: _saved(_dark(i), "PNG")),
    ("webp", lambda i: _saved(i, "WEBP")),
    ("bmp", lambda i: _saved(i, "BMP")),
    ("tif", lambda i: _saved(i, "TIFF", compression="tiff_lzw")),
    ("tiff", lambda i: _saved(_dark(i), "TIFF")),
    ("gif", lambda i: _saved(i, "GIF")),
    ("jp2", lambda i: _saved(i, "JPEG2000")),
    ("ppm", lambda i: _saved(i, "PPM")),
    ("pgm", lambda i: _saved(i.convert("L"), "PPM")),
    ("avif", lambda i: _saved(i, "AVIF", speed=10)),
    ("jpg", lambda i: _saved(i, "JPEG", progressive=True)),
    ("jpeg", lambda i: _saved(i.convert("CMYK"), "JPEG")),
    ("JPG", lambda i: _saved(i.convert("L"), "JPEG")),
    ("jpg", lambda i: _saved(i, "JPEG")[:-2]),  # without its end mark, as some cameras and downloads leave it
    ("png", lambda i: _saved(i, "JPEG")),  # named by another format
    ("jpg", lambda i: _saved(i, "PNG")),
    *[("jpg", lambda i, n=n: _oriented(i, n)) for n in range(1, 9)],
]

BROKEN: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("jpg", lambda data: b""),
    ("jpg", lambda data: data[: len(data) // 2]),
    ("jpg", lambda data: data[:100]),
    ("png", lambda data: b"\x89PNG\r\n\x1a\n" + data[:500]),
    ("jpg", lambda data: b"<!doctype html><html><title>404 Not Found</title></html>"),
    ("png", lambda data: b'{"error": "quota exceeded"}'),
    ("jpg", lambda data: bytes(5000)),
    ("webp", lambda data: b"RIFF\xff\xff\xff\x00WEBPVP8 " + data[:300]),
    ("mp4", lambda data: data),  # random bytes as a video: a photograph is read by its content, so not this
    ("tif", lambda data: b"II*\0" + data[:200]),
    ("gif", lambda data: b"GIF89a" + data[:9]),
    ("avi", lambda data: b"RIFF\x10\x00\x00\x00AVI " + bytes(64)),
]
BROKEN[8] = ("mp4", lambda data: np.random.default_rng(0).bytes(4000))

NAMES = [
    "with space", "ünï©ødé", "фото", "写真 🎉", "100%", "it's", 'say "x"', "a;b&c", "$HOME", "tab\tname", "line\nbreak",
         "-n", "--help", "#hash", "x" * 245, "名" * 80, "..dots..", "comma,semi;", "back\\slash", "[brackets]", "{a,b}",
         "star*", "question?", "~tilde"]  # fmt: skip


def _video(path: Path, frames: list[np.ndarray], codec: str) -> bool:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path.is_file() and path.stat().st_size > 500


def _clip(photograph: Path) -> list[np.ndarray]:
    image = cv2.imread(str(photograph))
    assert image is not None
    small = np.asarray(cv2.resize(image, (320, 240)))
    return [np.roll(small, 6 * shift, axis=1) for shift in range(6)]


def make(folder: Path, count: int) -> Counter[str]:
    """Fill a folder; the number of files of each kind."""
    photos = photographs()
    number = 0

    def place(kind: str, suffix: str, data: bytes | None = None, name: str | None = None) -> Path:
        nonlocal number
        number += 1
        path = folder / (f"{kind} {number:04d} {name or ''}".rstrip()[: 250 - len(suffix)] + f".{suffix}")
        if len(os.fsencode(path.name)) > 255:
            path = folder / f"{kind} {number:04d} {'名' * 75}.{suffix}"
        if data is not None:
            path.write_bytes(data)
        return path

    scale = count / 1000
    for i in range(round(168 * scale)):
        suffix, convert = FORMATS[i % len(FORMATS)]
        with Image.open(next(photos)) as image:
            place("good", suffix, convert(image.convert("RGB")))
    for i in range(round(60 * scale)):
        suffix, codec = [("mp4", "mp4v"), ("avi", "MJPG"), ("mkv", "mp4v"), ("mov", "mp4v"), ("webm", "VP80"),
                         ("ts", "mp2v"), ("wmv", "WMV2"), ("mpg", "mpg1")][i % 8]  # fmt: skip
        path = place("good", suffix)
        if not _video(path, _clip(next(photos)), codec):
            path.unlink(missing_ok=True)
            number -= 1
    for i in range(round(24 * scale)):
        frames = [Image.fromarray(frame[..., ::-1]) for frame in _clip(next(photos))]
        suffix, kind = [("gif", "GIF"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF")][i % 4]
        place("good", suffix, _saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=80))
    cases = SHARED / "cases"
    for name in ("av1/av1.mp4", "suffix-decides/raw.h264", "suffix-decides/x.y4m", "whole-called-damaged/alonger.webm",
                 "whole-called-damaged/delayvar.gif", "whole-called-damaged/off5.mkv", "avif-rotation/exif6.avif",
                 "whole-called-damaged/ss_copy.mp4", "frame-number-after-start/codevfr.mkv"):  # fmt: skip
        place("good", name.rpartition(".")[2], (cases / name).read_bytes())
    for name in ("onebad.mp4", "bad.mkv"):
        place("half", name.rpartition(".")[2], (cases / "one-bad-frame" / name).read_bytes())
    for name in ("jpeg-199-scans-25mp.jpg", "jpeg-desync-ff01-32000.jpg", "redos-pnm-53B.pnm", "bigtiff-900mp.tif",
                 "gif-anim-256mp.gif"):  # fmt: skip
        place("bad", name.rpartition(".")[2], (cases / "hostile" / name).read_bytes())
    for i in range(round(96 * scale)):
        suffix, damage = BROKEN[i % len(BROKEN)]
        place("bad", suffix, damage(next(photos).read_bytes()))
    whole = place("half", "avi")
    _video(whole, _clip(next(photos)), "MJPG")
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    for i in range(round(48 * scale)):
        place("good", "jpg", next(photos).read_bytes(), NAMES[i % len(NAMES)])
    (folder / os.fsdecode(b"good lat\xe9in.jpg")).write_bytes(next(photos).read_bytes())
    for i in range(round(40 * scale)):
        suffix = ("txt", "json", "docx", "db", "csv", "jpg.part", "lnk", "xml")[i % 8]
        place("odd", suffix, b"not an image at all")
    (folder / "odd folder.jpg").mkdir()
    (folder / "odd folder.jpg" / "inside.jpg").write_bytes(next(photos).read_bytes())
    for name in (".DS_Store", "._odd.jpg", ".hidden.jpg", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"\0\5\x16\7\0\2\0\0")
    (folder / "good link.jpg").symlink_to(next(photos))
    (folder / "bad link.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "odd loop").symlink_to(folder)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "odd pipe.jpg")
    while len(list(folder.iterdir())) < count:
        place("good", "jpg", next(photos).read_bytes())
    return Counter(path.name.split()[0].lstrip("._") for path in folder.iterdir())


def kind_of(source: str) -> str:
    """Return the first word of a file's name."""
    return Path(source).name.split()[0]


def main() -> int:
    """Make the folder, run the command, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/mixed_folder.json")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="featherpose-mixed-"))
    folder = arguments.keep or home / "mixed"
    folder.mkdir(parents=True)
    made = make(folder, arguments.files)
    entries = sorted(path.name for path in folder.iterdir())
    started = time.perf_counter()
    outputs = ["--jsonl", "all.jsonl", "--csv", "all.csv", "--coco", "all.json", "--openpose", "op", "-o", "annotated"]
    done = subprocess.run(
        [sys.executable, "-m", "featherpose.cli.main", "predict", str(folder), *outputs, "--summary", "summary.json"],
        cwd=home, capture_output=True, text=True, errors="replace", timeout=3000, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    summary = json.loads((home / "summary.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (home / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    frames = Counter(Path(line["source"]).name for line in lines)
    failed = Counter(Path(failure["source"]).name for failure in summary["failed"])
    # How an entry appears in the outputs: bytes that are no UTF-8 as \xNN.
    names = {os.fsencode(entry).decode("utf-8", "backslashreplace") for entry in entries}
    wrong = {
        "good without frames": sorted(n for n in names if kind_of(n) == "good" and not frames[n]),
        "good but reported": sorted(n for n in failed if kind_of(n) == "good"),
        "bad but read": sorted(n for n in frames if kind_of(n) == "bad"),
        "bad and not reported": sorted(n for n in names if kind_of(n) in ("bad", "half") and not failed[n]),
        "half without frames": sorted(n for n in names if kind_of(n) == "half" and not frames[n]),
        "odd but touched": sorted(n for n in {*frames, *failed} if kind_of(n) not in ("good", "bad", "half")),
        "of no file": sorted(set(frames) - names),
    }
    annotated = sum(path.is_file() for path in (home / "annotated").rglob("*"))
    internal = [line for line in done.stderr.splitlines() if "internal error" in line or "Traceback" in line]
    result = {
        "entries": len(entries),
        "made": dict(made),
        "exit_code": done.returncode,
        "seconds": round(seconds, 1),
        "frames": summary["frames"],
        "sources": summary["sources"],
        "sources_with_frames": len(frames),
        "reported": len(summary["failed"]),
        "annotated_files": annotated,
        "wrong": {kind: found[:20] for kind, found in wrong.items() if found},
        "internal_errors": internal,
    }
    right = done.returncode == 1 and not internal and not any(wrong.values())
    publish(result, arguments.out if arguments.files == 1000 and right else None)
    shutil.rmtree(home, ignore_errors=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
