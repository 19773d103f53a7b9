"""Write pre-annotations for CVAT: ``annotations.xml`` to upload as "CVAT 1.1", and ``labels.json`` for a new task.

The labels of a skeleton cannot be uploaded with annotations: the task must have them, which is what the second file is
for (paste it in the *Raw* tab of the label editor).
"""

from __future__ import annotations

import json
from math import cos, pi, sin
from xml.sax.saxutils import escape, quoteattr

from featherpose.data.exchange.annotations import Annotations, LabeledPerson, limbs_between
from featherpose.skeleton import Skeleton

__all__ = ["cvat_annotations", "cvat_labels"]

_LABEL = "person"
# A label of skeletons takes no rectangles.
_BOX_LABEL = "person_box"


def cvat_annotations(annotations: Annotations) -> str:
    """Return ``annotations.xml``: one skeleton a person, a box for people without keypoints.

    Missing keypoints are outside, hidden ones occluded. The labels stand in ``meta`` as in CVAT's own exports; some
    readers take them from there.
    """
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    lines += _meta(annotations.skeleton, len(annotations.images))
    for number, image in enumerate(annotations.images):
        width, height = image.size
        lines.append(f'  <image id="{number}" name={quoteattr(image.file_name)} width="{width}" height="{height}">')
        for person in image.people:
            lines += _person(person, annotations.skeleton)
        lines.append("  </image>")
    return "\n".join([*lines, "</annotations>", ""])


def _meta(skeleton: Skeleton, images: int) -> list[str]:
    labels = [(_LABEL, "skeleton", None), *((name, "points", _LABEL) for name in skeleton.keypoints)]
    lines = [
        "  <meta>",
        "    <task>",
        f"      <size>{images}</size>",
        "      <mode>annotation</mode>",
        "      <labels>",
    ]
    for name, kind, parent in (*labels, (_BOX_LABEL, "rectangle", None)):
        inside = "" if parent is None else f"<parent>{escape(parent)}</parent>"
        lines.append(
            f"        <label><name>{escape(name)}</name><type>{kind}</type><attributes></attributes>{inside}</label>"
        )
    return [*lines, "      </labels>", "    </task>", "  </meta>"]


def _person(person: LabeledPerson, skeleton: Skeleton) -> list[str]:
    left, top, width, height = person.outline
    source = "manual" if person.score is None else "auto"
    if not person.is_labeled:
        return [
            f'    <box label="{_BOX_LABEL}" source="{source}" occluded="0" xtl="{left:.2f}" ytl="{top:.2f}" '
            f'xbr="{left + width:.2f}" ybr="{top + height:.2f}" z_order="0"></box>'
        ]
    lines = [f'    <skeleton label="{_LABEL}" source="{source}" z_order="0">']
    for name, (x, y, visibility) in zip(skeleton.keypoints, person.keypoints.tolist(), strict=True):
        outside, occluded = int(visibility == 0), int(visibility == 1)
        if outside:  # a place near by, from which it can be dragged
            x, y = left + width / 2, top + height / 2
        lines.append(
            f'      <points label={quoteattr(name)} source="{source}" outside="{outside}" occluded="{occluded}" '
            f'points="{x:.2f},{y:.2f}"></points>'
        )
    return [*lines, "    </skeleton>"]


def cvat_labels(skeleton: Skeleton) -> str:
    """Return the labels of a task as JSON: the skeleton with its limbs, in a drawing of a circle.

    Example:
        >>> json.loads(cvat_labels(Skeleton.create("arm", ["elbow", "wrist"], [("elbow", "wrist")])))[0]["type"]
        'skeleton'
    """
    count = skeleton.num_keypoints
    places = [(50 - 40 * sin(2 * pi * k / count), 50 - 40 * cos(2 * pi * k / count)) for k in range(count)]
    drawing = []
    for a, b in limbs_between(skeleton):
        (x1, y1), (x2, y2) = places[a], places[b]
        drawing.append(
            f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="black" data-type="edge" '
            f'data-node-from="{a + 1}" stroke-width="0.5" data-node-to="{b + 1}"></line>'
        )
    for k, ((x, y), name) in enumerate(zip(places, skeleton.keypoints, strict=True), 1):
        drawing.append(
            f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x:.2f}" cy="{y:.2f}" stroke-width="0.1" '
            f'data-type="element node" data-element-id="{k}" data-node-id="{k}" data-label-name={quoteattr(name)}>'
            "</circle>"
        )
    points = [{"name": name, "type": "points", "attributes": []} for name in skeleton.keypoints]
    person = {"name": _LABEL, "type": "skeleton", "attributes": [], "sublabels": points, "svg": "".join(drawing)}
    boxes = {"name": _BOX_LABEL, "type": "rectangle", "attributes": []}
    return json.dumps([person, boxes], indent=2, ensure_ascii=False) + "\n"
