"""Gaussian noise of any level, on BSDS500."""

import common
import sets
from restoration import DENOISE

if __name__ == "__main__":
    data = "BSDS500 train and test, 400 photographs"
    common.main(common.Job("denoise", DENOISE, sets.clean_folder, sets.miniature_folder, data))
