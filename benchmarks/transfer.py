"""What motion transfer gets right on people of known joints, and how fast a puppet is drawn.

python benchmarks/transfer.py --json benchmarks/results/transfer.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from reports import publish, spread

from featherpose.evaluation.motion.paper_people import Proportions, dancing, drawn_person, standing_joints
from featherpose.transfer.mesh import flipped
from featherpose.transfer.puppet import Puppet, joints_of
from featherpose.transfer.retargeting import Body, retarget
from featherpose.transfer.similarity import psnr

BODIES = {
    "longer arms, shorter legs": Proportions(90, 1.12, 0.92, (420, 260)),
    "shorter arms, longer legs": Proportions(150, 0.9, 1.1, (300, 320)),
    "same proportions, smaller": Proportions(65, 1.0, 1.0, (200, 180)),
}
SOURCE = Proportions(130, 1.0, 1.0, (300, 300))
POSES = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    source = dancing(SOURCE, 240)
    errors = {}
    for name, body in BODIES.items():
        wanted = dancing(body, 240)
        result = retarget(source, Body.of(wanted), max_gap_s=0)
        error = np.hypot(*np.moveaxis(result.keypoints - wanted.keypoints, -1, 0))
        errors[name] = round(100 * float(np.nanmean(error)) / Body.of(wanted).stature, 3)
    person = Proportions(110, 1, 1, (240, 270))
    image, mask, joints = drawn_person((480, 512), person)
    puppet = Puppet(image, joints, mask=mask)
    rng = np.random.default_rng(0)
    names = [f"{side}_{joint}" for side in ("left", "right") for joint in ("elbow", "wrist", "knee", "ankle")]
    poses = [standing_joints(person, {name: float(rng.uniform(-150, 150)) for name in names}) for _ in range(POSES)]
    turned_over = 0
    for pose in poses:
        for name, moved in puppet.place(pose).items():
            turned_over += flipped(puppet.layers[name].vertices, moved, puppet.layers[name].triangles)
    moves = retarget(source, puppet.body)
    drawn = [joints_of(points, moves.skeleton) for points in moves.keypoints[:, 0]]
    puppet.render(drawn[0])
    walls, began = [], process_time()
    for pose in drawn:
        started = perf_counter()
        puppet.render(pose)
        walls.append(1e3 * (perf_counter() - started))
    publish(
        {
            "retargeting, mean joint error, % of the stature": errors,
            "rest pose, PSNR in dB": round(min(99.0, psnr(puppet.render(puppet.joints), image)), 2),
            "triangles": sum(len(layer.triangles) for layer in puppet.layers.values()),
            "random poses": POSES,
            "triangles turned over in them": turned_over,
            "puppet of 480x512, ms a frame": spread(walls),
            "puppet, processor ms a frame": round(1e3 * (process_time() - began) / len(drawn), 2),
            "puppet, frames a second by the median": round(1e3 / float(np.median(walls)), 1),
        },
        given.json,
    )


if __name__ == "__main__":
    main()
