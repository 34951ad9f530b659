# SPDX-License-Identifier: Apache-2.0
"""Write the data lists of the results from folders of pictures with an ``index.csv`` (id, patient, split).

    python tests/results/datalists.py brain_tumor DATA OUT.json [--target mask|class]

``DATA`` holds ``images/<id>.jpg``, ``masks/<id>.png`` and the column ``label`` (1 meningioma, 2 glioma, 3 pituitary
tumour).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from monai_kd.csv_tables import read_table

SIDES = {"train": "training", "val": "validation", "test": "test"}


def brain_tumor_list(data: Path, target: str) -> dict[str, list[dict[str, str | int]]]:
    lists: dict[str, list[dict[str, str | int]]] = {side: [] for side in SIDES.values()}
    for row in read_table(data / "index.csv"):
        label = str(data / "masks" / f"{row['id']}.png") if target == "mask" else int(row["label"])
        image = str(data / "images" / f"{row['id']}.jpg")
        lists[SIDES[row["split"]]].append({"image": image, "label": label, "patient": row["patient"]})
    return lists


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", choices=["brain_tumor"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--target", choices=["mask", "class"], default="mask")
    args = parser.parse_args()
    args.out.write_text(json.dumps(brain_tumor_list(args.data.resolve(), args.target), indent=1))
