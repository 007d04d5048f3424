"""X-Pool (Gorti et al., CVPR 2022): text-conditioned pooling of video frames for retrieval."""
