"""Motion blur and defocus, on BSDS500."""

import common
import sets
from restoration import DEBLUR

if __name__ == "__main__":
    data = "BSDS500 train and test, 400 photographs"
    common.main(common.Job("deblur", DEBLUR, sets.clean_folder, sets.miniature_folder, data))
