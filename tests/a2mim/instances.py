"""Small pictures with instances in COCO's format: rectangles of bright colours on dark noise."""

import json
from pathlib import Path

import numpy as np

from tests.a2mim.scenes import save

COLOURS = {5: ("red", (255, 0, 0)), 7: ("green", (0, 255, 0)), 9: ("blue", (0, 0, 255))}
"""Category -> name and colour."""


def write_instances(folder, parts=(("train2017", 8), ("val2017", 4)), size=(48, 64), most=2, seed=0):
    """`most` rectangles at most in each picture, beside each other; the second picture of a part holds none."""
    folder = Path(folder)
    for part, count in parts:
        rng = np.random.default_rng(seed)
        stated = {"images": [], "annotations": [], "categories": [{"id": n, "name": c[0]} for n, c in COLOURS.items()]}
        for number in range(count):
            height, width = size if number % 3 else (size[1], size[0])
            pixels = rng.integers(0, 60, (height, width, 3))
            things = 0 if number == 1 else int(rng.integers(1, most + 1))
            for place in range(things):
                category = int(rng.choice(list(COLOURS)))
                room = width // most
                w, h = int(rng.integers(room // 2, room - 4)), int(rng.integers(height // 3, height - 8))
                x, y = place * room + int(rng.integers(1, room - w)), int(rng.integers(1, height - h))
                pixels[y : y + h, x : x + w] = COLOURS[category][1]
                stated["annotations"].append(annotation(len(stated["annotations"]) + 1, number, category, (x, y, w, h)))
            save(folder / "images" / part / f"{number}.png", pixels)
            stated["images"].append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        write(folder, part, stated)
    return folder


def annotation(identity, image, category, box, **more):
    x, y, w, h = box
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    about = {"id": identity, "image_id": image, "category_id": category, "bbox": list(box), "area": w * h}
    return {**about, "iscrowd": 0, "segmentation": [outline], **more}


def write(folder, part, stated):
    path = Path(folder) / "annotations" / f"instances_{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stated))


def stated(folder, part="train2017"):
    return json.loads((Path(folder) / "annotations" / f"instances_{part}.json").read_text())
