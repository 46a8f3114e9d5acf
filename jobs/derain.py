"""Rain streaks, on BSDS500."""

import common
import sets
from restoration import DERAIN

if __name__ == "__main__":
    data = "BSDS500 train and test without those held out for rain"
    common.main(common.Job("derain", DERAIN, sets.clean_folder, sets.miniature_folder, data))
