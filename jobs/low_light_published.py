"""Low light as published: the whole photograph at 256x256, the published network, the published recipe, in bf16.

A batch of two in one pass is two passes of one: the network normalises each image by itself. Its 72 MB of weights in
half precision are more than can be brought back; the figures and the pictures are.
"""

from dataclasses import replace

import common
import sets

from rddm.recipes import published_low_light

RECIPE = replace(published_low_light(), accumulate=1, validate_every=5_000, precision="bf16", compile=True)

if __name__ == "__main__":
    data = "LOL-v1 train, 461 of 485 pairs"
    common.main(common.Job("low-light-published", RECIPE, sets.lol_whole, sets.miniature_pairs, data))
