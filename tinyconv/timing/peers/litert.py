"""The peer "litert": the file of `tinyconv export --to litert` in LiteRT. Inference only.

The file takes one image at a time, and a batch is a loop over its images. An interpreter that is
resized to 64 images gives the same outputs for the nets for CIFAR, but is slower: on one core,
`cifar10_tiny` took 121 instead of 44 ms of CPU time for 64 images, `tiniest` 182 instead of 148 and
`resnet20` 28 instead of 26. It cannot run `test_vit` at all.
"""

from tinyconv.timing.exported import Exported


class Peer(Exported):
    kind = "LiteRT"
    library = "ai-edge-litert"
    format = "litert"
