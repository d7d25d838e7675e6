"""A raw scan made ready: bad pixels, cropping and binning, orientation, a first guess of the probe."""
