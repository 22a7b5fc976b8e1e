"""Names that the emulation of CUDA shares with those who do without torch."""

CUDA_ON_CPU = "cuda on cpu"
# The attribute that marks a torch tensor which would be on CUDA.
ON_CUDA = "_hstu_capture_on_cuda"
