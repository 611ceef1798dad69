"""EffiSeg's ways against those of a careful user of the libraries, as ratios in one run: `make bench`."""

import stages  # noqa: F401  the study's own process settings, before torch reads them
