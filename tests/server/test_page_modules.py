"""The page's modules one by one, in a real browser: geometry to the pixel, bounded memory, the parser of streams."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator

import numpy as np
import pytest
from page_browser import Page, decode_png, open_browser
from pose_server import Running

from featherpose.drawing.palette import person_color, text_color
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton
from featherpose.tracking.tracker import certainties


@pytest.fixture(scope="module")
def page(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("downloads"), device=False) as page:
        page.open(f"{server.url}/")
        yield page


@pytest.fixture
def screen(page: Page) -> Iterator[Page]:
    page.prefer(prefers_color_scheme="dark")  # the paper behind the stage's round corners is not white then
    yield page
    page.prefer()
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# A gray image with one white pixel, and a person whose only limb runs through that pixel: what is drawn must lie
# where the browser itself shows the pixel.
ALIGNMENT = """
const [width, height, x, y, mirrored] = given;
const { View } = await import("/static/view.js");
const $ = (id) => document.getElementById(id);
const view = new View({
  stage: $("stage"), video: $("video"), image: $("image"), frame: $("frame"), overlay: $("overlay"),
});
const canvas = document.createElement("canvas");
[canvas.width, canvas.height] = [width, height];
const context = canvas.getContext("2d");
context.fillStyle = "#404040";
context.fillRect(0, 0, width, height);
context.fillStyle = "#ffffff";
context.fillRect(x, y, 1, 1);
document.getElementById("welcome").hidden = true;
document.getElementById("frame").style.imageRendering = "pixelated";
view.show("frame");
view.paint(canvas);
await new Promise((resolve) => setTimeout(resolve, 300)); // the stage takes the image's shape
const person = { id: null, score: 1, keypoints: [[x, y, 1], [x + 40, y, 1]] };
await view.draw([person], { limbs: [[0, 1]] }, [width, height], false);
const overlay = $("overlay");
const { data } = overlay.getContext("2d").getImageData(0, 0, overlay.width, overlay.height);
// Limb and joints lie evenly about their middle: the center of mass of all that is drawn.
let n = 0, sx = 0, sy = 0;
for (let row = 0; row < overlay.height; row += 1) {
  for (let column = 0; column < overlay.width; column += 1) {
    const alpha = data[4 * (row * overlay.width + column) + 3];
    n += alpha;
    sx += alpha * (column + 0.5);
    sy += alpha * (row + 0.5);
  }
}
const ratio = overlay.width / overlay.clientWidth;
return { n, x: sx / n / ratio, y: sy / n / ratio, ratio, deviceRatio: devicePixelRatio };
"""


@pytest.mark.parametrize(
    ("screen_size", "ratio"), [((1360, 900), 1.0), ((1360, 500), 1.0), ((360, 740), 2.0), ((1000, 800), 1.25)]
)
@pytest.mark.parametrize("size", [(320, 180), (180, 320), (201, 151)])
def test_joints_lie_on_their_pixels(
    screen: Page, screen_size: tuple[int, int], ratio: float, size: tuple[int, int]
) -> None:
    page = screen
    page.set_screen(*screen_size, ratio)
    page.driver.refresh()
    x, y = size[0] // 3, size[1] // 2
    found = page.module(ALIGNMENT, *size, x, y, False)
    assert found["deviceRatio"] == pytest.approx(ratio)
    assert found["ratio"] == pytest.approx(ratio, rel=0.01)
    page.run("document.getElementById('overlay').style.visibility = 'hidden'")
    seen = decode_png(page.find("stage").screenshot_as_png).max(-1) > 230
    assert seen.any(), "the white pixel is on the screen"
    rows, columns = np.nonzero(seen)
    pixel = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / ratio
    # Two joints, 40 pixels apart in the image: their middle is 20 of its pixels to the right of the white one.
    width = np.array(page.run("const s = document.getElementById('stage'); return [s.clientWidth, s.clientHeight]"))
    scale = float((width / size).min())
    assert found["n"] > 0
    assert found["x"] == pytest.approx(pixel[0] + 20 * scale, abs=0.5)
    assert found["y"] == pytest.approx(pixel[1], abs=0.5)


def test_mirror_exchanges_left_and_right(page: Page) -> None:
    script = """
    const { contain, placer } = await import("/static/view.js");
    const area = contain([200, 100], [300, 300]);
    const plain = placer([200, 100], area, false), mirrored = placer([200, 100], area, true);
    return [area, plain([0, 0]), mirrored([0, 0]), mirrored([199, 99])];
    """
    area, plain, mirrored, other = page.module(script)
    assert area == {"left": 0, "top": 75, "width": 300, "height": 150}
    # Pixel 0 is centered half a pixel, 0.75 of the screen's, inside the edge.
    assert plain == [0.75, 75.75]
    assert mirrored == [299.25, 75.75]
    assert other == [0.75, 224.25]


def test_colors_are_those_of_annotated_video(page: Page) -> None:
    script = """
    const { personColor, inkOn } = await import("/static/draw.js");
    const context = document.createElement("canvas").getContext("2d");
    return Array.from({ length: 40 }, (_, id) => {
      context.fillStyle = personColor(id);
      context.fillRect(0, 0, 1, 1);
      return [[...context.getImageData(0, 0, 1, 1).data].slice(0, 3), inkOn(id)];
    });
    """
    for number, (rgb, ink) in enumerate(page.module(script)):
        blue, green, red = person_color(number)
        assert np.abs(np.array(rgb) - (red, green, blue)).max() <= 2, number
        assert (ink == "#ffffff") == (text_color((blue, green, red)) == (255, 255, 255)), (number, rgb)
        assert colorsys.rgb_to_hsv(*(c / 255 for c in rgb))[2] == pytest.approx(1.0, abs=0.01)


def test_weak_keypoints_and_people_are_left_out(page: Page) -> None:
    script = """
    const { visiblePeople } = await import("/static/draw.js");
    const message = { people: [
      { id: 4, score: 1.5, keypoints: [[1, 2, 0.9], null, [3, 4, 0.1], [null, null, 0]] },
      { id: 5, score: 3.0, keypoints: [[1, 2, 0.55], null, null, null] },
      { id: 6, score: 1.1, keypoints: [null, null, [3, 4, 0.1], null] },
      { id: 7, score: 1.1, keypoints: [null, null, null, null] },
    ] };
    return visiblePeople(message, { keypointCertainty: 0.15, personCertainty: 0.3 });
    """
    assert page.module(script) == [
        {"id": 4, "score": 1.5, "keypoints": [[1, 2, 0.9], None, None, None], "motion": None}
    ]


def test_a_person_is_as_certain_here_as_for_the_tracker(page: Page) -> None:
    scores = np.array([[0.9, 0.0, 0.4, 0.7], [0.2, 0.0, 0.0, 0.0]], np.float32)
    points = np.where(scores[..., None] > 0, np.float32(5), np.float32(np.nan)).repeat(2, axis=2)
    skeleton = Skeleton.create("square", ["a", "b", "c", "d"], [("a", "b")])
    expected = certainties(Poses(points, scores, scores[:, 0], skeleton, (10, 10)))
    given = [[[5, 5, score] if score > 0 else None for score in person] for person in scores.tolist()]
    script = """
    const { certainty } = await import("/static/draw.js");
    return given[0].map(certainty);
    """
    assert page.module(script, given) == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_long_session_loses_its_oldest_frames_and_says_so(page: Page) -> None:
    script = """
    const { Session } = await import("/static/session.js");
    const session = new Session(100_000);
    session.describe({ model: "m", skeleton: { name: "s" } });
    for (let frame = 0; frame < 20_000; frame += 1) {
      session.add("camera", { frame, timestamp_s: frame / 10, size: [4, 3], people: [], times_ms: {} }, 12.3);
    }
    const whole = JSON.parse(await session.blob().text());
    const { length, dropped, size } = session;
    session.clear();
    const empty = JSON.parse(await session.blob().text());
    const head = whole.frames[0], tail = whole.frames.at(-1);
    return { length, dropped, size, head, tail, told: whole.dropped_oldest, empty: empty.frames };
    """
    result = page.module(script)
    assert result["size"] <= 100_000
    assert result["length"] + result["dropped"] == 20_000
    assert result["dropped"] == result["told"] > 10_000
    assert result["head"]["frame"] == result["dropped"]
    assert result["tail"]["frame"] == 19_999
    assert result["tail"]["latency_ms"] == 12
    assert result["empty"] == []


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_parts_of_a_stream_survive_any_cut(page: Page, chunk: int) -> None:
    script = """
    const [chunk] = given;
    const { parts } = await import("/static/server-source.js");
    const text = (s) => new TextEncoder().encode(s);
    const bodies = [[1, 13, 10, 13, 10, 2], [], [255, 45, 45]];
    const head = "--frame\\r\\nContent-Type: image/jpeg\\r\\nContent-Length: ";
    const bytes = bodies.flatMap((body, i) => [
      ...text(`${head}${body.length}\\r\\nX-Frame: ${i}\\r\\n\\r\\n`),
      ...body,
      ...text("\\r\\n"),
    ]);
    const stream = new ReadableStream({
      start(controller) {
        for (let i = 0; i < bytes.length; i += chunk) controller.enqueue(new Uint8Array(bytes.slice(i, i + chunk)));
        controller.close();
      },
    });
    const found = [];
    for await (const { headers, body } of parts(new Response(stream))) found.push([headers.get("x-frame"), [...body]]);
    return found;
    """
    assert page.module(script, chunk) == [["0", [1, 13, 10, 13, 10, 2]], ["1", []], ["2", [255, 45, 45]]]


def test_tokens_and_times_travel_as_the_server_reads_them(page: Page) -> None:
    script = """
    const { base64url } = await import("/static/server.js");
    const { withTimestamp } = await import("/static/stream.js");
    const packet = await withTimestamp(new Blob([new Uint8Array([7, 8])]), 1234.5);
    return [base64url("secret-secret-secret"), base64url("ü?>~"), [...packet]];
    """
    token, other, packet = page.module(script)
    assert token == "c2VjcmV0LXNlY3JldC1zZWNyZXQ"
    assert other == "w7w_Pn4"
    assert np.frombuffer(bytes(packet[:8]), "<f8")[0] == 1234.5
    assert packet[8:] == [7, 8]


def test_frames_are_shrunk_never_enlarged(page: Page) -> None:
    script = """
    const { shrunk, Shrinker } = await import("/static/live.js");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [1920, 1080];
    const blob = await new Shrinker().jpeg(canvas, [1920, 1080], 640);
    const bitmap = await createImageBitmap(blob);
    const sizes = [shrunk(1920, 1080, 640), shrunk(300, 400, 640), shrunk(1, 5000, 640)];
    return [...sizes, blob.type, bitmap.width, bitmap.height];
    """
    assert page.module(script) == [[640, 360], [300, 400], [1, 640], "image/jpeg", 640, 360]


def test_figures_are_rates_and_medians(page: Page) -> None:
    script = """
    const { Meter } = await import("/static/figures.js");
    const meter = new Meter();
    const empty = meter.read(0);
    for (let i = 0; i <= 10; i += 1) meter.mark(1000 + 100 * i, i === 3 ? 900 : 50 + i);
    return [empty, meter.read(2000), meter.read(9000)];
    """
    empty, full, late = page.module(script)
    assert empty == late == {"fps": None, "latencyMs": None}
    assert full == {"fps": 10, "latencyMs": 56}
